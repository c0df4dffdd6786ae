"""A partner: whether it is reached, its data roots, and what its machine and account are like."""

import re
import secrets
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from caxflow import __version__, preview, transfer
from caxflow.config import Settings, Site, reach
from caxflow.errors import CaxflowError
from caxflow.monitoring.doctor import connections, farend, folders, marks, typed
from caxflow.monitoring.doctor.finding import BAD, DOUBTFUL, GOOD, Finding, in_words, space
from caxflow.transfer import Place
from caxflow.transfer.restriction import Restriction

# What is said of a login that succeeded, and after which no program of ours answered.
_MUTE = re.compile(r"no helper could be started|ended without an answer")


def examine(settings: Settings, site: Site) -> Iterator[Finding]:
    """Yield everything about one partner; after the first failure the rest would fail for the same reason."""
    about = f"site {site.name}"
    try:
        place = reach.place(settings, site)
        allowed = transfer.allowed(place)
        how = f"over SSH to {place.host}, its host key is known" if place.remote else "as a folder here"
        yield Finding(about, GOOD, f"reached {how}")
        kept = [name for name in settings.kinds if name in site.roots and (name == "raw" or site.processed)]
        pushed = site.name in settings.here.push_to and not preview.only_looks()
        if allowed:
            yield from _restricted(settings, site, allowed)
            kept = [kind for kind in kept if _covers(allowed, site.roots[kind])]
            # What is tried would stay there.
            pushed = pushed and not (allowed.read_only or allowed.no_delete)
        written = []
        for kind in kept:
            good = pushed
            for finding in _root(settings, site, place, kind, pushed=pushed):
                good = good and finding.verdict != BAD
                yield finding
            written += [site.roots[kind]] if good else []
        if place.remote and shutil.which("ssh") is None:
            said = "without OpenSSH's ssh here, the far end, its connections and the way back are not tried"
            yield Finding(about, DOUBTFUL, said)
        elif place.remote:
            if place.method == "stream" and not allowed:
                yield from farend.examine(site, place, written)
                yield from farend.way_back(settings, site, place)
            yield from connections.examine(site, place, restricted=allowed is not None)
    except CaxflowError as error:
        mend = error.mend
        if found := re.search("host key of .* (is not known|has changed)", error.what):
            command = typed.host_key(place, changed=found[1] == "has changed")
            mend = f"{command}, once its manager has told you the same fingerprint"
        elif _MUTE.search(error.what) and shutil.which("ssh") and (why := farend.start_up(site, place)):
            yield from why
            return
        yield Finding(about, BAD, error.what.removeprefix(f"{site.name}: "), mend)


def _restricted(settings: Settings, site: Site, allowed: Restriction) -> Iterator[Finding]:
    """Yield what our key may do there, and what that keeps from working."""
    about = f"site {site.name}"
    yield Finding(about, GOOD, f"our key is restricted there by caxflow serve {allowed.version}: {allowed}")
    ask = "ask its manager"
    if allowed.read_only and site.name in settings.here.push_to:
        said = "copies are pushed there, and our key may only read (caxflow serve --read-only)"
        yield Finding(
            about, BAD, said, f"{ask} for --no-delete, or take it out of push_to of {settings.here.name}"
        )
    if (
        site.permissions
        and site.name in settings.here.push_to
        and not allowed.allows("permissions", applies=True)
    ):
        said = (
            "copies that are pushed there keep the modes that its umask gives: our key may set no permissions"
        )
        fix = f"{ask} to see which are not as wanted: caxflow strays --permissions, at {site.name}"
        yield Finding(about, DOUBTFUL, said, fix)
    for kind, root in site.roots.items():
        if not _covers(allowed, root):
            said = f"{root} is none of the folders that our key may use"
            yield Finding(
                f"{kind} data at {site.name}", BAD, said, f"{ask} for a further --root {shlex.quote(root)}"
            )
    if allowed.version != __version__:
        said = f"caxflow serve there is version {allowed.version}, this is {__version__}"
        yield Finding(
            about,
            DOUBTFUL,
            said,
            f"if something fails by that, {ask} to write it anew: caxflow serve --write",
        )
    said = "its Python, start-up files and file systems are not tried, nor is the way back"
    yield Finding(about, GOOD, f"with that key {said}")


def _covers(allowed: Restriction, root: str) -> bool:
    try:
        allowed.split(root)
    except CaxflowError:
        return False
    return True


def _root(settings: Settings, site: Site, place: Place, kind: str, *, pushed: bool) -> Iterator[Finding]:
    about, root = f"{kind} data at {site.name}", site.roots[kind]
    if transfer.exists(place, root) != "directory":
        yield Finding(about, BAD, f"{root} is no folder", typed.there(place, f"mkdir -p {shlex.quote(root)}"))
        return
    if others := transfer.root(place, root).others:
        mend = typed.there(place, f"chmod go-w {shlex.quote(root)}")
        yield folders.open_to_others(about, root, others, f"have its manager do it: {mend}")
    if wrong := marks.missing(settings, site, kind, about, written=site.name in settings.here.push_to):
        yield from wrong
    elif pushed:
        yield from _push(place, root, kind, about)
        if not place.remote:
            yield from folders.remarks(about, root, folders.written(root)[1])
    else:
        yield Finding(about, GOOD, f"{root} is there, {in_words(transfer.free_space(place, root))}")


def _push(place: Place, root: str, kind: str, about: str) -> Iterator[Finding]:
    """Send a small dataset, read it there, and remove it."""
    name = f".caxflow-doctor-{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / name
        trial.mkdir()
        (trial / "trial").write_bytes(b"a trial\n")
        here = Place(site="here", method="local")
        try:
            transfer.copy(here, str(trial), place, f"{root}/{name}")
        finally:
            try:
                transfer.remove_tree(place, f"{root}/{name}", root=root)
            except CaxflowError as error:
                said = f"what is tried cannot be removed: {error.what}"
                yield Finding(about, DOUBTFUL, said, typed.there(place, f"rm -r {root}/{name}"))
    look = typed.there(place, f"df -h {shlex.quote(root)}")
    yield space(about, root, kind, transfer.free_space(place, root), found="can be written", look=look)
