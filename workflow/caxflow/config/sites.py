"""Site files: one a site, and what they must not say of each other."""

import itertools
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from caxflow import targets
from caxflow.config import schema
from caxflow.config.folders import folder
from caxflow.config.model import Access, Processed, Site
from caxflow.config.yamlfile import read_words
from caxflow.errors import CaxflowError
from caxflow.files import permissions
from caxflow.processing.minitrees import read_recipe


def load_sites(directory: Path, where: str) -> dict[str, Site]:
    """Read all site files of a folder, which `where` names; each is called as its site.

    Raises
    ------
    CaxflowError
        Naming the file, the key and the mend.
    """
    mend = f"sites_dir in {where} names the folder of the site files"
    try:
        paths = sorted(directory.iterdir())
    except (OSError, ValueError) as error:
        raise CaxflowError(f"{directory}: {getattr(error, 'strerror', None) or error}", mend) from error
    # Names with a dot in front are what editors leave behind.
    files = [path for path in paths if path.match("*.y*ml") and not path.name.startswith(".")]
    if other := [path for path in files if path.suffix != ".yaml"]:
        raise CaxflowError(f"{other[0]}: site files end in .yaml", "rename it")
    if not files:
        raise CaxflowError(f"{directory} has no site files", mend)
    return {path.stem: _load_site(path) for path in files}


def _load_site(path: Path) -> Site:
    document = schema.read(read_words(path), "site", lambda *_: path)
    if not re.fullmatch(targets.SITE, path.stem):
        raise CaxflowError(
            f"{path}: the file's name is not a site's name", "use lower-case letters, digits, hyphens"
        )
    roots = {kind: folder(root, path, f"roots.{kind}") for kind, root in document["roots"].items()}
    work_dir = folder(document["work_dir"], path, "work_dir") if "work_dir" in document else None
    _check_folders(roots, work_dir, path)
    access = dict(document.get("access") or {"method": "local"})
    if access["method"] != "local" and "host" not in access:
        raise CaxflowError(
            f"{path}: key 'access.host' is missing", f"method {access['method']} needs to know where"
        )
    if access["method"] == "scp" and "permissions" in document:
        raise CaxflowError(
            f"{path}: permissions: copies that come by method scp (access.method) can be given none",
            "set access.method to stream, or take permissions out",
        )
    if "ssh_config" in access:
        access["ssh_config"] = folder(access["ssh_config"], path, "access.ssh_config")
    processed = Processed(**document["processed"]) if "processed" in document else None
    if processed and "processed" not in roots:
        raise CaxflowError(f"{path}: key 'roots.processed' is missing", "processed files need a folder")
    made_of = document.get("minitrees")
    if made_of and not (processed and "minitrees" in roots):
        missing = "roots.minitrees" if processed else "processed"
        raise CaxflowError(f"{path}: key {missing!r} is missing", "minitrees need both")
    return Site(
        name=path.stem,
        host=document["host"],
        roots=roots,
        access=Access(**access),
        work_dir=work_dir,
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


def _check_folders(roots: Mapping[str, str], work_dir: str | None, path: Path) -> None:
    """Refuse a folder inside of another: what lies there would be taken for strays of the other."""
    mend = "give each a folder of its own"
    for (kind, root), (other, its_root) in itertools.combinations(roots.items(), 2):
        if overlap(root, its_root):
            both = f"{its_root} and roots.{kind}, {root}"
            raise CaxflowError(f"{path}: roots.{other}: {both}, are one folder or one in the other", mend)
    for kind, root in roots.items():
        if work_dir and f"{work_dir}/".startswith(f"{root}/"):
            raise CaxflowError(
                f"{path}: work_dir: {work_dir} is among the data, in roots.{kind}, {root}", mend
            )


def overlap(one: str, other: str) -> bool:
    """Return whether two folders are one, or one is in the other."""
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


def check_sites(sites: Mapping[str, Site], directory: Path, known_processors: Collection[str]) -> None:
    """Check what site files say of each other and of processors."""
    hosts: dict[str, str] = {}
    for site in sites.values():
        where, known = directory / f"{site.name}.yaml", ", ".join(sites)
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
                f"the processors are {', '.join(sorted(known_processors)) or 'none'}",
            )


def check_roots(sites: Mapping[str, Site], here: Site, directory: Path) -> None:
    """Refuse two sites that are one folder: their copies would be one, and bear witness for each other."""
    for one, other in itertools.combinations(sites.values(), 2):
        if not _ways(one, here) & _ways(other, here):
            continue
        for kind, root in one.roots.items():
            for its_kind, its_root in other.roots.items():
                if overlap(root, its_root):
                    raise CaxflowError(
                        f"{directory / other.name}.yaml: roots.{its_kind}: {its_root} and roots.{kind} of "
                        f"site {one.name}, {root}, are reached the same way, and are one folder or one in "
                        "the other",
                        "give each site folders of its own, or make them one site",
                    )


def _ways(site: Site, here: Site) -> set[tuple]:
    """How a site's folders are reached: from outside, and as files that are just opened."""
    access = site.access
    found: set[tuple] = {("local",)} if site is here or access.method == "local" else set()
    return found | ({(access.host, access.port or 22, access.user)} if access.host else set())
