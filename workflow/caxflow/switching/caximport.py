"""Translates cax's configuration, a ``cax.json``, into site files; names what has no translation.

Format: a list of objects, one a host, as cax 5.2 reads it (``cax/config.py`` and ``cax/cax.json`` there).
"""

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caxflow import targets
from caxflow.errors import CaxflowError

ORIGIN = "xe1t-datamanager"  # cax names it in its code

METHODS = {"scp": "scp", "rsync": "stream"}
_NO_SSH = {"gfal-copy": "grid storage", "tsm": "tape", "rucio": "Rucio", "lcg-cp": "grid storage"}

# Keys of cax that need no translation, or whose matter is settled elsewhere.
_HINTS = {
    "grid_cert": "grid storage is no site here",
    "dir_tsm": "tape is no site here",
    "rucio_config_p2": "Rucio is no site here",
    "rucio_config_p3": "Rucio is no site here",
    "pax_version_purge": "old versions of processed files go by purge: {superseded_after_days: …}",
    "task_list": "name targets or rules instead (--until copy_raw); docs/switching.md has each task",
}
_KNOWN = {
    "name",
    "method",
    "hostname",
    "username",
    "dir_raw",
    "dir_processed",
    "dir_minitrees",
    "upload_options",
    "download_options",
    "nstreams",
    "data_type",
    "purge",
    "dataset_list",
    "pax_processing_versions",
}


@dataclass
class Imported:
    """What came of a ``cax.json``.

    Parameters
    ----------
    sites : dict
        By site, the content of its file.
    here : dict
        By site, what its profile says over ``config.yaml``.
    notes : list of str
        What was not translated, and what to do about it.
    """

    sites: dict[str, dict[str, Any]] = field(default_factory=dict)
    here: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read(path: Path) -> tuple[list[dict], list[str]]:
    """Read a ``cax.json``; a key given twice counts as the last one, as for cax, and is named.

    Raises
    ------
    CaxflowError
        If it is no list of named hosts.
    """
    twice: list[str] = []

    def keep(pairs: list[tuple[str, Any]]) -> dict:
        for key in sorted({key for key, _ in pairs if sum(other == key for other, _ in pairs) > 1}):
            name = dict(pairs).get("name")
            twice.append(f"{name}: {key} is given twice; the last one counts, as it did for cax")
        return dict(pairs)

    try:
        found = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=keep)
    except OSError as error:
        raise CaxflowError(f"{path} cannot be read: {error.strerror}", "name cax's configuration") from error
    except ValueError as error:
        raise CaxflowError(f"{path} is not JSON: {error}", "name the file that cax works with") from error
    named = isinstance(found, list) and all(
        isinstance(host, dict) and isinstance(host.get("name"), str) for host in found
    )
    if not named or not found:
        raise CaxflowError(f"{path} is not a list of hosts with names", "name cax's configuration")
    return found, twice


def translate(
    hosts: list[dict], names: Mapping[str, str] | None = None, version: str | None = None
) -> Imported:
    """Make site files of hosts.

    Parameters
    ----------
    hosts : list of dict
        As `read` gives them.
    names : mapping, optional
        Names of sites by cax's host; else the host's own name is the site's.
    version : str, optional
        Processor whose files the sites keep that have a folder for them.

    Returns
    -------
    Imported
    """
    made = Imported()
    sites = _names(hosts, names or {}, made)
    for host in hosts:
        name = host["name"]
        if name in sites:
            made.sites[sites[name]] = _site(host, sites, version, made)
            made.here[sites[name]] = dict(_here(host))
            made.notes += [f"{name}: {note}" for note in _left_over(host)]
    return made


def _names(hosts: list[dict], names: Mapping[str, str], made: Imported) -> dict[str, str]:
    """Names of sites by cax's host, of those that can be sites; the others are named."""
    for name in names:
        if name not in {host["name"] for host in hosts}:
            raise CaxflowError(f"there is no host {name!r} in cax's configuration", "look at its names")
    sites: dict[str, str] = {}
    for host in hosts:
        name, method = host["name"], host.get("method")
        site = names.get(name) or re.sub(r"[^a-z0-9-]", "-", name.lower())
        if method in _NO_SSH:
            made.notes.append(
                f"{name}: {_NO_SSH[method]} ({method}) is no site here; its entries stay in the runs database"
            )
        elif method not in METHODS:
            made.notes.append(f"{name}: method {method!r} is not one of cax's; no site was made")
        elif not _folder(host.get("dir_raw")):
            made.notes.append(f"{name}: no absolute dir_raw; no site was made")
        elif not re.fullmatch(targets.SITE, site):
            raise CaxflowError(
                f"{site!r} is not a site's name", f"give {name} another one: --name {name}=site"
            )
        elif site in sites.values():
            raise CaxflowError(f"two hosts would be site {site!r}", f"use --name {name}=another")
        else:
            sites[name] = site
    return sites


def _site(host: Mapping, sites: Mapping[str, str], version: str | None, made: Imported) -> dict:
    name = host["name"]
    site: dict[str, Any] = {"host": name}
    if name == ORIGIN:
        site["origin"] = True
    site["access"] = _access(host, made)
    folders = {kind: _folder(host.get(f"dir_{kind}")) for kind in ("raw", "processed", "minitrees")}
    site["roots"] = {kind: folder for kind, folder in folders.items() if folder}
    site["work_dir"] = posixpath.join(posixpath.dirname(folders["raw"]), "caxflow")
    for key, option in (("pull_from", "download_options"), ("push_to", "upload_options")):
        partners = host.get(option) or []
        known = [sites[partner] for partner in partners if partner in sites]
        if known:
            site[key] = list(dict.fromkeys(known))
        for partner in partners:
            if partner not in sites:
                made.notes.append(f"{name}: {option} names {partner}, which is no site; left out")
    if folders["processed"]:
        if version:
            site["processed"] = {"version": version, "make": True}
        else:
            made.notes.append(
                f"{name}: cax processed with the pax it found; add processed: {{version: …}} to its file, "
                "or import with --processor"
            )
    return site


def _access(host: Mapping, made: Imported) -> dict[str, Any]:
    address, user = host.get("hostname"), host.get("username")
    if not address:
        made.notes.append(f"{host['name']}: no hostname; its data are taken to be on a shared file system")
        return {"method": "local"}
    access: dict[str, Any] = {"method": METHODS[host["method"]], "host": address}
    if access["method"] == "scp":
        made.notes.append(
            f"{host['name']}: method scp is kept; stream is faster where a python3 can be run there"
        )
    if user:
        access["user"] = user
    if isinstance(host.get("nstreams"), int):
        access["connections"] = host["nstreams"]
    return access


def _here(host: Mapping) -> Iterator[tuple[str, Any]]:
    """What holds only where this host's own workflow runs."""
    kinds = [kind for kind in host.get("data_type") or () if kind in ("raw", "processed")]
    if kinds:
        yield "kinds", kinds
    if isinstance(host.get("purge"), int):
        yield "purge", {"after_days": host["purge"]}
    runs = [run for run in host.get("dataset_list") or () if re.fullmatch(targets.RUN, str(run))]
    if runs:
        yield "runs", runs


def _left_over(host: Mapping) -> Iterator[str]:
    for key, value in host.items():
        if value in (None, [], "") or key in _KNOWN - {"pax_processing_versions", "purge"}:
            continue
        if key == "purge":
            yield "purge removes on evidence: good copies elsewhere, read again lately (config/README.md)"
        elif key == "pax_processing_versions":
            yield f"pax_processing_versions {value} is not used: processed.version is the one of the site"
        else:
            yield f"{key} is not used: {_HINTS.get(key, 'cax 5.2 does not read it either')}"


def _folder(found: object) -> str | None:
    """An absolute folder without the slash at its end, which cax wrote at will."""
    if not isinstance(found, str) or not found.startswith("/"):
        return None
    return posixpath.normpath(found)
