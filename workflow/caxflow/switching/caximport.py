"""Translates cax's configuration, a ``cax.json``, into site files; names what has no translation.

Format: a list of objects, one a host, as cax 5.2 reads it (``cax/config.py`` and ``cax/cax.json`` there).
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from caxflow import plainfile, targets
from caxflow.cax import ORIGIN
from caxflow.config import schema
from caxflow.config.folders import folder
from caxflow.config.sites import overlap
from caxflow.errors import CaxflowError
from caxflow.switching.caxhost import ACCESS, KINDS, Host, Imported

METHODS = {"scp": "scp", "rsync": "stream"}
_MOST = 10_000_000  # bytes of a cax.json
_NO_SSH = {"gfal-copy": "grid storage", "tsm": "tape", "rucio": "Rucio", "lcg-cp": "grid storage"}


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
        found = json.loads(plainfile.read(path, _MOST).decode(), object_pairs_hook=keep)
    except OSError as error:
        raise CaxflowError(f"{path} cannot be read: {error.strerror}", "name cax's configuration") from error
    except (ValueError, RecursionError) as error:
        raise CaxflowError(f"{path} is not JSON: {error}", "name the file that cax works with") from error
    named = isinstance(found, list) and all(
        isinstance(host, dict) and isinstance(host.get("name"), str) for host in found
    )
    if not named or not found:
        raise CaxflowError(f"{path} is not a list of hosts with names", "name cax's configuration")
    return found, twice


def translate(
    hosts: list[dict],
    names: Mapping[str, str] | None = None,
    version: str | None = None,
    here: str | None = None,
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
    here : str, optional
        cax's name of the host that a profile is made for.

    Returns
    -------
    Imported
    """
    made = Imported()
    first: dict[str, dict] = {}
    for host in hosts:
        if first.setdefault(host["name"], host) is not host:
            made.note(host["name"], "is there twice; the first entry counts, as it did for cax")
    for name in names or {}:
        if name not in first:
            raise CaxflowError(f"there is no host {name!r} in cax's configuration", "look at its names")
    bases: dict[str, dict] = {}
    for name, host in first.items():
        base = _base(host, made)
        if base and not _is_one_of(name, base, bases, here, made):
            bases[name] = base
    sites = _names(list(bases), names or {})
    for name, base in bases.items():
        host = Host(first[name], base, sites, made, is_here=name == here)
        made.sites[sites[name]] = host.site(version)
        own = dict(host.own())
        if name == here:
            made.here = own
            host.note_here()
        elif own:
            text = ", ".join(f"{key}: {json.dumps(value)}" for key, value in own.items())
            made.note(name, f"for the profile of a workflow that runs there, in its caxflow.yaml: {text}")
        host.left_over()
    if not any(site.get("origin") for site in made.sites.values()):
        made.notes.append(
            f"no site is {ORIGIN}, where raw data are born for cax; set origin: true in one's file"
        )
    return made


def _base(host: Mapping, made: Imported) -> dict[str, Any] | None:
    """Host, access and roots of the site that a host can be; None, with a note, if it can be none."""
    name, method = host["name"], host.get("method")
    if method in list(_NO_SSH):
        storage = f"{_NO_SSH[method]} ({method})"
        made.note(name, f"{storage} is no site here; its entries stay in the runs database")
        return None
    if method not in list(METHODS):
        made.note(name, f"method {method!r} is not one of cax's; no site was made")
        return None
    roots = dict(_roots(host, made))
    if "raw" not in roots:
        made.note(name, "no absolute dir_raw; no site was made")
        return None
    site = {"host": name, "access": {"method": METHODS[method]}, "roots": roots}
    site["access"] |= {ours: host[key] for key, ours in ACCESS.items() if host.get(key) not in (None, "", [])}
    if "host" not in site["access"]:
        # How it is reached says nothing about a shared file system.
        site["access"] = {"method": "local"}
    while refused := _refused(site):
        way, why = refused
        key = next((key for key, ours in ACCESS.items() if ["access", ours] == way), "name")
        if way[-1] == "host":
            made.note(name, f"{key} is of no use ({why}); no site was made")
            return None
        made.note(name, f"{key} is left out: {why}")
        del site["access"][way[-1]]
    return site


def _roots(host: Mapping, made: Imported) -> Iterator[tuple[str, str]]:
    """Yield kind and folder of the data of a host."""
    found: list[str] = []
    for kind in KINDS:
        key = f"dir_{kind}"
        given = host.get(key)
        if given in (None, ""):
            continue
        try:
            if not isinstance(given, str):
                raise CaxflowError(f"{host['name']}: {key}: {given!r} is not text")
            root = folder(given, host["name"], key)
            if inner := [other for other in found if overlap(root, other)]:
                both = f"{root} and {inner[0]} are one, or one is in the other"
                raise CaxflowError(f"{host['name']}: {key}: {both}")
        except CaxflowError as error:
            made.notes.append(f"{error.what}; left out")
        else:
            found.append(root)
            yield kind, root


def _refused(site: Mapping) -> tuple[list[str], str] | None:
    """Return the way to what a site's file cannot have, and why."""
    where: list[str] = []
    try:
        schema.read(site, "site", lambda *way: where.extend(way) or "")
    except CaxflowError as error:
        return where, error.what.removeprefix(": ")
    return None


def _is_one_of(
    name: str, base: Mapping, others: Mapping[str, Mapping], here: str | None, made: Imported
) -> bool:
    """Whether a host's folders are those of an earlier one, reached the same way: a storage is one site."""
    for other, its in others.items():
        pairs = itertools.product(base["roots"].values(), its["roots"].values())
        shared = next((pair for pair in pairs if overlap(*pair)), None)
        if shared is None:
            continue
        what = f"its {shared[0]} is {shared[1]} of {other}, or one is in the other"
        if _ways(name, base, here) & _ways(other, its, here):
            made.note(name, f"{what}, reached the same way: that is one storage, and no site was made of it")
            return True
        made.note(name, f"{what}; if that is one storage, remove its file: copies there would count twice")
    return False


def _ways(name: str, site: Mapping, here: str | None) -> set[tuple]:
    """How folders are reached: as files that are just opened, and from outside."""
    access = site["access"]
    ways: set[tuple] = {("local",)} if name == here or access["method"] == "local" else set()
    return ways | ({(access["host"], access.get("user"))} if "host" in access else set())


def _names(hosts: list[str], names: Mapping[str, str]) -> dict[str, str]:
    """Names of sites by cax's host."""
    sites: dict[str, str] = {}
    for name in hosts:
        site = names.get(name) or re.sub(r"[^a-z0-9-]", "-", name.lower())
        if not re.fullmatch(targets.SITE, site):
            raise CaxflowError(
                f"{site!r} is not a site's name", f"give {name} another one: --name {name}=site"
            )
        if site in sites.values():
            raise CaxflowError(f"two hosts would be site {site!r}", f"use --name {name}=another")
        sites[name] = site
    return sites
