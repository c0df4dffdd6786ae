"""Reads the configuration, refuses it early and completely, and hands it on as plain values.

What to do stands in ``config/config.yaml``, one file a site in ``config/sites/``; the closed schemas of both
are in ``workflow/schemas/``. Whatever is wrong is one message that names the file, the key and the mend.
"""

import dataclasses
import datetime
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from caxflow.config import retention, schema
from caxflow.config.folders import HOME, folder
from caxflow.config.model import (
    Access,
    Corrections,
    Mail,
    Notify,
    Page,
    Processed,
    RunDBAddress,
    Selection,
    Settings,
    Site,
    Unattended,
)
from caxflow.config.sites import check_roots, check_sites, load_sites
from caxflow.config.sources import Layer, Sources, merge, merge_all, without_nulls
from caxflow.config.yamlfile import Word, read_words, read_yaml
from caxflow.errors import CaxflowError
from caxflow.processing import processors

__all__ = [
    "HOME",
    "Access",
    "Corrections",
    "Mail",
    "Notify",
    "Page",
    "Processed",
    "RunDBAddress",
    "Selection",
    "Settings",
    "Site",
    "Unattended",
    "load",
    "load_sites",
    "merge",
    "merge_all",
    "read_yaml",
]

OVERRIDES = "--config or --configfile"

_DEFAULTS = {
    "sites_dir": "sites",
    "runs": [],
    "select": {},
    "kinds": ["raw", "processed", "minitrees"],
    "processors": {},
    "corrections": {},
    "masters": [],
    "scrub": {},
    "batch_size": 200,
    "verify": True,
    "lease": 30,
    "attempts": 5,
    "pause": 10,
    "keep_failed": 14,
    "foreign_files": "refuse",
    "dry": False,
}


def load(
    said: Mapping[str, Any] | Sequence[Layer],
    directory: str | os.PathLike | None = None,
) -> Settings:
    """Read and check the whole configuration.

    Parameters
    ----------
    said : sequence of (str, mapping), or mapping
        What ``--configfile`` and ``--config`` say, by how messages call each place: it goes over
        ``config.yaml``, key by key. Or all of it, merged.
    directory : path, optional
        The folder of ``config.yaml``; by default ``config/`` of the clone.

    Raises
    ------
    CaxflowError
        Naming the file, the key and the mend.
    """
    where = Path(directory) if directory else HOME / "config"
    main = where / "config.yaml"
    document = read_words(main)
    # A wrong key in the file is reported against the file, so it is checked before the overrides hide it.
    alone = Sources([(str(main), document)])
    own = schema.read({"site": "here", **document}, "config", alone.of)
    _check_selection(own.get("select", {}), alone)
    layers = [(OVERRIDES, said)] if isinstance(said, Mapping) else said
    layers = [(str(main), document), *((name, _plain(content)) for name, content in layers)]
    sources = Sources(layers)
    merged = merge_all(layers, _DEFAULTS)
    if "site" not in merged:
        raise CaxflowError(
            "which site this is, is not known",
            "use --profile <site>; with a --configfile of your own, name the profile's before it: "
            "--configfile profiles/<site>/caxflow.yaml <yours>",
        )
    merged = schema.read(_without_taken_out(merged), "config", sources.of)
    _check_selection(merged["select"], sources)
    sites = load_sites(where / merged["sites_dir"], sources.of("sites_dir"))
    return _settings(merged, sites, where / merged["sites_dir"], sources)


def _without_taken_out(merged: Mapping) -> dict[str, Any]:
    """Return a configuration without what a place took out of a definition that another place has."""
    found = dict(merged)
    if isinstance(found["processors"], Mapping):
        found["processors"] = {name: without_nulls(each) for name, each in found["processors"].items()}
    if isinstance(found["corrections"], Mapping) and "slow_control" in found["corrections"]:
        slow_control = without_nulls(found["corrections"]["slow_control"])
        found["corrections"] = {**found["corrections"], "slow_control": slow_control}
    return found


def _plain(value: Any) -> Any:
    """Turn what Snakemake parsed into JSON's types and words: all in its ``--config`` may be text."""
    if isinstance(value, str):
        return value if isinstance(value, Word) else _word(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    return value


def _word(text: str) -> Word | None:
    # Snakemake's --config hands on as text what is inside brackets.
    return None if text == "null" else Word(text)


def _check_selection(select: Mapping, sources: Sources) -> None:
    """Refuse times that do not exist and ranges that hold nothing; a schema sees neither."""
    times = {}
    for key, text in select.get("start", {}).items():
        try:
            times[key] = datetime.datetime.fromisoformat(text)
        except ValueError as error:
            raise CaxflowError(
                f"{sources.of('select', 'start', key)}: select.start.{key}: {text!r} is not a time: {error}",
                "write 2016-11-01 or '2016-11-01 12:00', in UTC",
            ) from None
    numbers = select.get("numbers", {})
    if numbers.get("first", 0) > numbers.get("last", math.inf):
        where = sources.of("select", "numbers", "last")
        raise CaxflowError(
            f"{where}: select.numbers: first {numbers['first']} is above last {numbers['last']}", "swap them"
        )
    if len(times) == 2 and times["after"] >= times["before"]:
        start, where = select["start"], sources.of("select", "start", "before")
        raise CaxflowError(
            f"{where}: select.start: nothing is after {start['after']} and before {start['before']}",
            "swap them",
        )


def _settings(merged: Mapping, sites: Mapping[str, Site], site_files: Path, sources: Sources) -> Settings:
    if merged["site"] not in sites:
        raise CaxflowError(
            f"{sources.of('site')}: site: there is no site {merged['site']!r} in {site_files}",
            f"the site files are {', '.join(sites)}",
        )
    check_sites(sites, site_files, merged["processors"])
    here = sites[merged["site"]]
    check_roots(sites, here, site_files)
    if here.work_dir and Path(here.work_dir) in (HOME, *HOME.parents):
        raise CaxflowError(
            f"{site_files / here.name}.yaml: work_dir: {here.work_dir} holds the clone itself",
            "targets need a folder of their own, or a folder named like a profile hides it",
        )
    rundb = RunDBAddress(**merged["rundb"], place=sources.of("rundb", "uri"))
    return Settings(
        site_files=str(site_files),
        here=here,
        sites=sites,
        rundb=rundb,
        selection=_selection(merged),
        kinds=tuple(merged["kinds"]),
        processors=_processors(merged["processors"], sources),
        corrections=_corrections(merged["corrections"], sources),
        masters=_masters(merged["masters"], sites, sources.of("masters")),
        purge=retention.read_purge(merged["purge"]) if merged.get("purge") else None,
        scrub=retention.read_scrub(merged["scrub"]),
        batch_size=merged["batch_size"],
        verify=merged["verify"],
        lease=merged["lease"],
        attempts=merged["attempts"],
        pause=merged["pause"],
        keep_failed=merged["keep_failed"],
        foreign_files=merged["foreign_files"],
        dry=merged["dry"],
        page=_page(merged, sources),
        metrics=folder(merged["metrics"], sources.of("metrics"), "metrics") if "metrics" in merged else None,
        notify=_notify(merged, sources),
        daemon=_daemon(merged, sources),
    )


def _page(merged: Mapping, sources: Sources) -> Page | None:
    if "page" not in merged:
        return None
    where = sources.of("page", "folder")
    return Page(**merged["page"] | {"folder": folder(merged["page"]["folder"], where, "page.folder")})


def _notify(merged: Mapping, sources: Sources) -> Notify | None:
    if "notify" not in merged:
        return None
    options = dict(merged["notify"])
    if "mail" in options:
        mail = options["mail"] | {"to": tuple(options["mail"]["to"])}
        options["mail"] = Mail(**mail, place=sources.of("notify", "mail", "sender"))
    return Notify(**options)


def _daemon(merged: Mapping, sources: Sources) -> Unattended:
    keys = merged.get("daemon", {})
    if "purge" in keys and not merged.get("purge"):
        raise CaxflowError(
            f"{sources.of('daemon', 'purge')}: daemon.purge: nothing says what may be removed",
            "add purge: {after_days: …}",
        )
    every = {name: datetime.timedelta(hours=keys[name]) for name in ("purge", "scrub") if name in keys}
    return Unattended(keys.get("all", True), every)


def _masters(named: Sequence[str], sites: Mapping[str, Site], where: str) -> tuple[str, ...]:
    """Sites in the order in which their copies are right: those named, where data are born, the others."""
    for name in named:
        if name not in sites:
            raise CaxflowError(
                f"{where}: masters: there is no site {name!r}", f"the site files are {', '.join(sites)}"
            )
    born = [site.name for site in sites.values() if site.origin]
    return tuple(dict.fromkeys([*named, *born, *sites]))


def _corrections(keys: Mapping, sources: Sources) -> Corrections:
    slow_control = dict(keys.get("slow_control", {}))
    if "table" in slow_control:
        where = sources.of("corrections", "slow_control", "table")
        slow_control["table"] = folder(slow_control["table"], where, "corrections.slow_control.table")
    return Corrections(tuple(keys.get("apply", ())), keys.get("reprocess", False), slow_control)


def _processors(definitions: Mapping, sources: Sources) -> dict[str, processors.Processor]:
    places = {name: sources.places("processors", name) for name in definitions}
    try:
        read = processors.read_all(definitions)
    except CaxflowError as error:
        where = sources.since(
            lambda said: processors.read_all(
                schema.typed(_without_taken_out(_DEFAULTS | said), "config")["processors"]
            ),
            error,
        )
        name = next((name for name in definitions if error.what.startswith(f"processor {name}:")), None)
        what, fix = f"{where}: {error.what}", error.mend
        if inherited := processors.by_place(places[name][:-1]) if name else "":
            fix += f"; it inherits {inherited}, and null takes out what is not wanted (conda: null)"
        raise CaxflowError(what, fix) from error
    return {name: dataclasses.replace(each, places=places[name]) for name, each in read.items()}


def _selection(merged: Mapping) -> Selection:
    select = merged["select"]
    numbers, start = select.get("numbers", {}), select.get("start", {})
    time = {key: datetime.datetime.fromisoformat(text) for key, text in start.items()}
    return Selection(
        runs=tuple(merged["runs"]),
        detectors=tuple(select.get("detectors", ())),
        first=numbers.get("first"),
        last=numbers.get("last"),
        after=time.get("after"),
        before=time.get("before"),
        tags=tuple(select.get("tags", ())),
        without_tags=tuple(select.get("without_tags", ())),
        sources=tuple(select.get("sources", ())),
    )
