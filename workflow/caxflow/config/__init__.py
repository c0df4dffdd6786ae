"""Reads the configuration, refuses it early and completely, and hands it on as plain values.

What to do stands in ``config/config.yaml``, one file a site in ``config/sites/``; the closed schemas of both
are in ``workflow/schemas/``. Whatever is wrong is one message that names the file, the key and the mend.
"""

import contextlib
import datetime
import difflib
import functools
import itertools
import math
import operator
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from caxflow import targets
from caxflow.config import retention
from caxflow.errors import CaxflowError
from caxflow.files import permissions
from caxflow.files.permissions import Wanted
from caxflow.processing import processors
from caxflow.processing.minitrees import Recipe, read_recipe

HOME = Path(__file__).resolve().parents[3]
SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
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
    "dry": False,
}


@dataclass(frozen=True)
class Access:
    """How other sites reach a site; `method` is ``stream``, ``scp`` or ``local``."""

    method: str = "local"
    host: str | None = None
    port: int | None = None
    user: str | None = None
    jump: str | None = None
    ssh_config: str | None = None
    python: str = "python3"
    connections: int | None = None
    bandwidth: float | None = None
    timeout: float = 60


@dataclass(frozen=True)
class Processed:
    """The processed files a site keeps: the processor that makes them, whether here, with how many cores."""

    version: str
    make: bool = True
    cores: int = 4


@dataclass(frozen=True)
class Site:
    """A place with data roots; `host` is its name in the runs database."""

    name: str
    host: str
    roots: Mapping[str, str]
    access: Access = field(default_factory=Access)
    work_dir: str | None = None
    origin: bool = False
    pull_from: tuple[str, ...] = ()
    push_to: tuple[str, ...] = ()
    processed: Processed | None = None
    minitrees: Recipe | None = None
    permissions: Mapping[str, Wanted] = field(default_factory=dict)

    def raw_path(self, run: targets.Run) -> str:
        """Where this site keeps the raw dataset of `run`."""
        return f"{self.roots['raw']}/{run}"


@dataclass(frozen=True)
class Corrections:
    """Which corrections are written into run documents, and from where the cathode voltage comes.

    Parameters
    ----------
    apply : tuple of str
        Names out of `caxflow.conditions.corrections`; none: other programs do it.
    reprocess : bool
        Whether what was processed with older corrections is processed again.
    slow_control : mapping
        Keyword arguments of `caxflow.conditions.slowcontrol.provider`.
    """

    apply: tuple[str, ...] = ()
    reprocess: bool = False
    slow_control: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunDBAddress:
    """Where the runs database is; `timeout` in seconds."""

    uri: str
    database: str = "run"
    collection: str = "runs_new"
    timeout: float = 10


@dataclass(frozen=True)
class Page:
    """Where the runs page is written, at most once in `every` minutes."""

    folder: str
    every: float = 10


@dataclass(frozen=True)
class Mail:
    """How e-mail is sent; user and password come from the environment."""

    to: tuple[str, ...]
    sender: str
    server: str = "localhost"
    port: int | None = None
    tls: str = "starttls"


@dataclass(frozen=True)
class Notify:
    """Who is told what a human must do: one message in `every` minutes, the same after `remind` hours."""

    webhook: bool = False
    mail: Mail | None = None
    every: float = 60
    remind: float = 24


@dataclass(frozen=True)
class Selection:
    """Which runs to look after; an empty value admits all."""

    runs: tuple[str, ...] = ()
    detectors: tuple[str, ...] = ()
    first: int | None = None
    last: int | None = None
    after: datetime.datetime | None = None
    before: datetime.datetime | None = None
    tags: tuple[str, ...] = ()
    without_tags: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Settings:
    """The whole configuration; `lease` and `pause` in minutes, `masters` whose copies are right first."""

    here: Site
    sites: Mapping[str, Site]
    rundb: RunDBAddress
    selection: Selection
    kinds: tuple[str, ...]
    processors: Mapping[str, processors.Processor]
    corrections: Corrections
    masters: tuple[str, ...]
    purge: retention.Purge | None
    scrub: retention.Scrub
    batch_size: int
    verify: bool
    lease: float
    attempts: int
    pause: float
    dry: bool
    page: Page | None = None
    metrics: str | None = None
    notify: Notify | None = None

    def site(self, name: str) -> Site:
        """The site called `name`.

        Raises
        ------
        CaxflowError
            If no site file has that name.
        """
        if name not in self.sites:
            raise CaxflowError(f"there is no site {name!r}", f"the sites are {', '.join(sorted(self.sites))}")
        return self.sites[name]

    def processor(self, site: Site) -> processors.Processor:
        """The processor whose files a site keeps.

        Raises
        ------
        CaxflowError
            If the site keeps no processed files.
        """
        if site.processed is None:
            raise CaxflowError(
                f"site {site.name} keeps no processed files", "add 'processed' to its site file"
            )
        return self.processors[site.processed.version]

    def processed_path(self, site: Site, run: targets.Run) -> str:
        """Where a site keeps the processed file of `run`, of its version."""
        return str(self.processor(site).product_path(site.roots["processed"], run))


def load(overrides: Mapping[str, Any], directory: str | os.PathLike | None = None) -> Settings:
    """Read and check the whole configuration.

    Parameters
    ----------
    overrides : mapping
        What ``--config`` and ``--configfile`` say; merged over ``config.yaml``, key by key.
    directory : path, optional
        The folder of ``config.yaml``; by default ``config/`` of the clone.

    Raises
    ------
    CaxflowError
        Naming the file, the key and the mend.
    """
    folder = Path(directory) if directory else HOME / "config"
    main = folder / "config.yaml"
    document = read_yaml(main)
    # A wrong key in the file is reported against the file, so it is checked before the overrides hide it.
    _check({"site": "here", **document}, "config", main)
    _check_selection(document.get("select", {}), main)
    merged = _merge(_merge(_DEFAULTS, document), _plain(overrides))
    if "site" not in merged:
        raise CaxflowError(
            "which site this is, is not known",
            "use --profile <site>; with a --configfile of your own, name the profile's before it: "
            "--configfile profiles/<site>/caxflow.yaml <yours>",
        )
    over = f"{OVERRIDES} (over {main})"
    _read_words(merged)
    _check(merged, "config", over)
    _check_selection(merged["select"], over)
    sites = _load_sites(folder / merged["sites_dir"])
    return _settings(merged, sites, main)


def read_yaml(path: Path) -> dict:
    """Read a YAML mapping; dates stay text, a key given twice is an error."""
    try:
        with path.open(encoding="utf-8") as stream:
            document = yaml.load(stream, Loader=_Loader)  # noqa: S506 - a SafeLoader underneath
    except FileNotFoundError:
        raise CaxflowError(f"{path} does not exist", "restore it from the repository, or write it") from None
    except OSError as error:
        raise CaxflowError(f"{path} cannot be read: {error.strerror}", "mend its permissions") from error
    except (yaml.YAMLError, ValueError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        cause = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise CaxflowError(f"{path}{line}: not valid YAML: {cause}", "mend that line") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise CaxflowError(f"{path}: not a mapping of keys to values", "write lines like 'key: value'")
    return document


class _Loader(yaml.SafeLoader):
    """SafeLoader that keeps dates as text, and refuses a key that is given twice or is no text."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            wrong = ""
            if not key.tag.endswith((":str", ":merge")):
                wrong = f"key {key.value!r} is not text unless it is quoted"
            elif key.value in seen:
                wrong = f"key {key.value!r} is given twice"
            if wrong:
                raise yaml.constructor.ConstructorError(None, None, wrong, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _plain(value: Any) -> Any:
    """Turn what Snakemake parsed into JSON's types; its loader makes dates of text that looks like one."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    return value


def _merge(base: Mapping, over: Mapping) -> dict:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(merged.get(key), Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


_schemas: dict[str, dict] = {}


def _validator(kind: str) -> jsonschema.Draft202012Validator:
    if kind not in _schemas:
        _schemas[kind] = read_yaml(SCHEMAS / f"{kind}.schema.yaml")
    return jsonschema.Draft202012Validator(_schemas[kind])


def _read_words(document: dict) -> None:
    """Read numbers and truth values where the schema wants them and there is text.

    Snakemake's ``--config`` hands on ``false``, and everything inside brackets, as text.
    """
    for error in list(_validator("config").iter_errors(document)):
        wanted = error.validator == "type" and error.validator_value in ("integer", "number", "boolean")
        if wanted and isinstance(error.instance, str):
            *way, last = error.absolute_path
            at = functools.reduce(operator.getitem, way, document)
            with contextlib.suppress(yaml.YAMLError, ValueError):
                at[last] = yaml.load(error.instance, Loader=_Loader)  # noqa: S506 - a SafeLoader underneath


def _check(document: Mapping, kind: str, where: object) -> None:
    error = jsonschema.exceptions.best_match(_validator(kind).iter_errors(document))
    if error is not None:
        what, mend = _explain(error)
        raise CaxflowError(f"{where}: {_without_secrets(what)}", mend)


def _check_selection(select: Mapping, where: object) -> None:
    """Refuse times that do not exist and ranges that hold nothing; a schema sees neither."""
    times = {}
    for key, text in select.get("start", {}).items():
        try:
            times[key] = datetime.datetime.fromisoformat(text)
        except ValueError as error:
            raise CaxflowError(
                f"{where}: select.start.{key}: {text!r} is not a time: {error}",
                "write 2016-11-01 or '2016-11-01 12:00', in UTC",
            ) from None
    numbers = select.get("numbers", {})
    if numbers.get("first", 0) > numbers.get("last", math.inf):
        raise CaxflowError(
            f"{where}: select.numbers: first {numbers['first']} is above last {numbers['last']}",
            "swap them",
        )
    if len(times) == 2 and times["after"] >= times["before"]:
        start = select["start"]
        raise CaxflowError(
            f"{where}: select.start: nothing is after {start['after']} and before {start['before']}",
            "swap them",
        )


def _without_secrets(text: str) -> str:
    """A message without the user and password of any URI in it."""
    return re.sub(r"//\S*@", "//", text)


def _explain(error: jsonschema.ValidationError) -> tuple[str, str]:
    """Say in words what a schema refuses, and how to mend it."""
    key = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path
    ).lstrip(".")
    prefix = f"{key}." if key else ""
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", ()))
        wrong = next(name for name in error.instance if name not in known)
        near = difflib.get_close_matches(wrong, known, n=1)
        mend = f"did you mean {near[0]!r}?" if near else f"the keys here are {', '.join(known)}"
        return f"unknown key '{prefix}{wrong}'", mend
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return f"key '{prefix}{missing}' is missing", "add it; config/README.md describes every key"
    if key.startswith("runs"):
        return _explain_run(key, error.instance)
    if error.validator == "enum":
        return (
            f"{key}: {error.instance!r} is not allowed",
            f"use one of {', '.join(map(str, error.validator_value))}",
        )
    described = error.schema.get("description", "")
    return f"{key}: {error.message}", f"expected: {described}" if described else "see config/README.md"


def _explain_run(key: str, value: object) -> tuple[str, str]:
    # YAML reads 160315_1432 as the integer 1603151432: underscores may group digits there.
    if isinstance(value, int) and re.fullmatch(r"\d{9,10}", str(value)):
        name = f"{value // 10_000:06d}_{value % 10_000:04d}"
        mend = f"quote it: runs: ['{name}'], or on the command line --config runs=\"['{name}']\""
        return f"{key}: YAML reads an unquoted run name as the number {value}", mend
    if not isinstance(value, list) and key == "runs":
        return f"{key}: {value!r} is not a list", f"write runs: ['{value}'], or --config runs=\"['{value}']\""
    return (
        f"{key}: {value!r} is not the name of a run",
        "names look like '160315_1432' or '160315_1432_MV', quoted",
    )


def check_site(document: Mapping, where: Path) -> None:
    """Check the content of a site file; `where` is what an error names."""
    _check(document, "site", where)


def _load_sites(folder: Path) -> dict[str, Site]:
    if not folder.is_dir():
        raise CaxflowError(
            f"{folder} does not exist", "sites_dir in config.yaml names the folder of the site files"
        )
    # Names with a dot in front are what editors leave behind.
    files = [path for path in sorted(folder.glob("*.yaml")) if not path.name.startswith(".")]
    return {path.stem: _load_site(path) for path in files}


def _load_site(path: Path) -> Site:
    document = read_yaml(path)
    check_site(document, path)
    if not re.fullmatch(targets.SITE, path.stem):
        raise CaxflowError(
            f"{path}: the file's name is not a site's name", "use lower-case letters, digits, hyphens"
        )
    roots = {kind: _folder(root, path, f"roots.{kind}") for kind, root in document["roots"].items()}
    access = dict(document.get("access") or {"method": "local"})
    if access["method"] != "local" and "host" not in access:
        raise CaxflowError(
            f"{path}: key 'access.host' is missing", f"method {access['method']} needs to know where"
        )
    if "ssh_config" in access:
        access["ssh_config"] = _folder(access["ssh_config"], path, "access.ssh_config")
    processed = Processed(**document["processed"]) if "processed" in document else None
    if processed and "processed" not in roots:
        raise CaxflowError(f"{path}: key 'roots.processed' is missing", "processed files need a folder")
    made_of = document.get("minitrees")
    if made_of and not (processed and "minitrees" in roots):
        missing = "roots.minitrees" if processed else "processed"
        raise CaxflowError(f"{path}: key {missing!r} is missing", "minitrees need both")
    work_dir = document.get("work_dir")
    return Site(
        name=path.stem,
        host=document["host"],
        roots=roots,
        access=Access(**access),
        work_dir=_folder(work_dir, path, "work_dir") if work_dir else None,
        origin=document.get("origin", False),
        pull_from=tuple(document.get("pull_from", ())),
        push_to=tuple(document.get("push_to", ())),
        processed=processed,
        minitrees=read_recipe(made_of, f"{path}: minitrees") if made_of else None,
        permissions={
            kind: permissions.read(keys, f"{path}: permissions.{kind}")
            for kind, keys in document.get("permissions", {}).items()
        },
    )


def _folder(text: str, path: Path, key: str) -> str:
    """Fill in environment variables and demand an absolute, normal path."""

    def value(match: re.Match) -> str:
        name = match[1]
        if name == "CAXFLOW_HOME":
            return os.environ.get(name, str(HOME))
        if not os.environ.get(name):
            raise CaxflowError(
                f"{path}: {key}: environment variable {name} is not set",
                f"export {name}, or write the folder out",
            )
        return os.environ[name]

    full = re.sub(r"\$\{(\w+)\}", value, text)
    if not full.startswith("/"):
        raise CaxflowError(f"{path}: {key}: {text!r} is not an absolute path", "let it begin with /")
    if ".." in full.split("/") or "\0" in full:
        raise CaxflowError(f"{path}: {key}: {text!r} goes up with '..'", "write the folder itself")
    normal = os.path.normpath("/" + full.lstrip("/"))
    if normal == "/":
        raise CaxflowError(f"{path}: {key}: {text!r} is everything", "give it a folder of its own")
    return normal


def _check_sites(sites: Mapping[str, Site], folder: Path, known_processors: Collection[str]) -> None:
    """Check what site files say of each other and of processors."""
    hosts: dict[str, str] = {}
    for site in sites.values():
        where, known = folder / f"{site.name}.yaml", ", ".join(sites)
        for key in ("pull_from", "push_to"):
            for other in getattr(site, key):
                if other not in sites:
                    raise CaxflowError(
                        f"{where}: {key}: there is no site {other!r}", f"the site files are {known}"
                    )
                if other == site.name:
                    raise CaxflowError(f"{where}: {key}: {other!r} is the site itself", "take it out")
        owner = hosts.setdefault(site.host, site.name)
        if owner != site.name:
            raise CaxflowError(
                f"{where}: host: {site.host!r} is site {owner} already",
                "each site needs a name of its own in the runs database",
            )
        if site.processed and site.processed.version not in known_processors:
            raise CaxflowError(
                f"{where}: processed.version: there is no processor {site.processed.version!r}",
                f"processors in config.yaml has {', '.join(sorted(known_processors)) or 'none'}",
            )


def _check_roots(sites: Mapping[str, Site], here: Site, folder: Path) -> None:
    """Refuse two sites that are one folder: their copies would be one, and bear witness for each other."""
    for one, other in itertools.combinations(sites.values(), 2):
        if not _ways(one, here) & _ways(other, here):
            continue
        for kind, root in one.roots.items():
            for its_kind, its_root in other.roots.items():
                if f"{root}/".startswith(f"{its_root}/") or f"{its_root}/".startswith(f"{root}/"):
                    raise CaxflowError(
                        f"{folder / other.name}.yaml: roots.{its_kind}: {its_root} and roots.{kind} of "
                        f"site {one.name}, {root}, are reached the same way, and are one folder or one in "
                        "the other",
                        "give each site folders of its own, or make them one site",
                    )


def _ways(site: Site, here: Site) -> set[tuple]:
    """How a site's folders are reached: from outside, and as files that are just opened."""
    access = site.access
    found: set[tuple] = {("local",)} if site is here or access.method == "local" else set()
    return found | ({(access.host, access.port or 22, access.user)} if access.host else set())


def _settings(merged: Mapping, sites: Mapping[str, Site], main: Path) -> Settings:
    folder = main.parent / merged["sites_dir"]
    if merged["site"] not in sites:
        raise CaxflowError(
            f"site: there is no site {merged['site']!r} in {folder}",
            f"the site files are {', '.join(sites)}",
        )
    _check_sites(sites, folder, merged["processors"])
    here = sites[merged["site"]]
    _check_roots(sites, here, folder)
    if here.work_dir and Path(here.work_dir) in (HOME, *HOME.parents):
        raise CaxflowError(
            f"site {here.name}: work_dir {here.work_dir} holds the clone itself",
            "targets need a folder of their own, or a folder named like a profile hides it",
        )
    rundb = RunDBAddress(**merged["rundb"])
    # Up to the last @, since whoever writes a password here may not have escaped it.
    if ":" in rundb.uri.partition("//")[2].rpartition("@")[0]:
        raise CaxflowError(
            f"{main}: rundb.uri contains a password",
            "take it out; export MONGODB_PASSWORD in the environment instead",
        )
    return Settings(
        here=here,
        sites=sites,
        rundb=rundb,
        selection=_selection(merged),
        kinds=tuple(merged["kinds"]),
        processors=_processors(merged["processors"], main),
        corrections=_corrections(merged["corrections"], main),
        masters=_masters(merged["masters"], sites),
        purge=retention.read_purge(merged["purge"]) if merged.get("purge") else None,
        scrub=retention.read_scrub(merged["scrub"]),
        batch_size=merged["batch_size"],
        verify=merged["verify"],
        lease=merged["lease"],
        attempts=merged["attempts"],
        pause=merged["pause"],
        dry=merged["dry"],
        page=_page(merged, main),
        metrics=_folder(merged["metrics"], main, "metrics") if "metrics" in merged else None,
        notify=_notify(merged),
    )


def _page(merged: Mapping, main: Path) -> Page | None:
    if "page" not in merged:
        return None
    return Page(**merged["page"] | {"folder": _folder(merged["page"]["folder"], main, "page.folder")})


def _notify(merged: Mapping) -> Notify | None:
    if "notify" not in merged:
        return None
    options = dict(merged["notify"])
    if "mail" in options:
        options["mail"] = Mail(**options["mail"] | {"to": tuple(options["mail"]["to"])})
    return Notify(**options)


def _masters(named: Sequence[str], sites: Mapping[str, Site]) -> tuple[str, ...]:
    """Sites in the order in which their copies are right: those named, where data are born, the others."""
    for name in named:
        if name not in sites:
            raise CaxflowError(
                f"masters: there is no site {name!r}", f"the site files are {', '.join(sites)}"
            )
    born = [site.name for site in sites.values() if site.origin]
    return tuple(dict.fromkeys([*named, *born, *sites]))


def _corrections(keys: Mapping, main: Path) -> Corrections:
    slow_control = dict(keys.get("slow_control", {}))
    if "table" in slow_control:
        slow_control["table"] = _folder(slow_control["table"], main, "corrections.slow_control.table")
    return Corrections(tuple(keys.get("apply", ())), keys.get("reprocess", False), slow_control)


def _processors(definitions: Mapping, main: Path) -> dict[str, processors.Processor]:
    try:
        return processors.read_all(definitions)
    except CaxflowError as error:
        raise CaxflowError(f"{main}: {error.what}", error.mend) from error


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
