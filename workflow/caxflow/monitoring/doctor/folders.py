"""The work directory and the data roots here: whether they can be written, and what their disks refuse."""

import os
import shlex
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from caxflow import abilities, config, legible, owners, preview, words
from caxflow.config import Settings
from caxflow.errors import CaxflowError
from caxflow.files import permissions
from caxflow.monitoring.doctor import marks, trials
from caxflow.monitoring.doctor.finding import BAD, DOUBTFUL, GOOD, Finding, in_words, space
from caxflow.planning import planner
from caxflow.processing import products
from caxflow.workdir import guard


def work_dir(settings: Settings) -> Iterator[Finding]:
    """Check the work directory."""
    about, folder = "work directory", planner.work_dir(settings)
    if not Path(folder).is_dir():
        yield Finding(about, DOUBTFUL, f"{folder} is no folder yet; the first call makes it")
        return
    for path, said in guard.found(Path(folder)):
        yield Finding(about, BAD, f"{path} {said}: no call runs there", guard.mend(Path(folder), path))
    yield from above(about, folder)
    found, refused = written(folder)
    locks = [each for each in refused if each[0].startswith(trials.LOCKS)]
    for what, _, _ in locks:
        mend = "have its file system mounted with locks, or put work_dir elsewhere"
        # A lock that is refused ends each call; one that locks nothing out does not show.
        verdict = DOUBTFUL if what.endswith("out") else BAD
        yield Finding(about, verdict, f"{folder}: {what}: two calls are not kept apart", mend)
    yield Finding(about, GOOD, f"{folder} {found}, {in_words(free(folder))}")
    yield from remarks(about, folder, [each for each in refused if each not in locks])
    yield from _failed_jobs(settings, folder)


def own_root(settings: Settings, kind: str) -> Iterator[Finding]:
    """Check a data root of this site."""
    here = settings.here
    about, root = f"{kind} data here", here.roots[kind]
    quoted = shlex.quote(root)
    if not Path(root).is_dir():
        yield Finding(about, BAD, f"{root} is no folder", f"mkdir -p {quoted}")
        return
    if others := owners.shared(Path(root).stat()):
        yield open_to_others(about, root, others, f"chmod go-w {quoted}")
    if others := permissions.passed_on(root):
        fix = f"setfacl -R -k {quoted}; what a group is to write, permissions give to copies"
        yield Finding(about, DOUBTFUL, f"{root} {others}", fix)
    yield from above(about, root)
    if not os.access(root, os.R_OK | os.X_OK):
        yield Finding(about, BAD, f"{root} cannot be read", f"chmod u+rx {quoted}, as its owner")
        return
    read_only = here.origin and not here.pull_from and kind == "raw"
    if wrong := marks.missing(settings, here, kind, about, written=not read_only):
        yield from wrong
        return
    if read_only:
        yield Finding(about, GOOD, f"{root} can be read; data are born here, nothing is written")
        return
    found, refused = written(root)
    yield space(about, root, kind, free(root), found=found, look=f"df -h {quoted}")
    yield from remarks(about, root, refused)


def above(about: str, folder: str) -> Iterator[Finding]:
    """Yield the folders above one in which others could put another one in its place."""
    for path, said in guard.above(Path(folder)):
        mend = f"as its owner: chmod go-w {shlex.quote(str(path))}, or chmod +t"
        yield Finding(about, BAD, f"{path} {said}: what is at {folder} could be exchanged", mend)


def open_to_others(about: str, root: str, others: str, mend: str) -> Finding:
    """Return what is to be said of a data root to which others may write."""
    said = f"{root} {others}: they can rename, exchange and remove what is right in it"
    return Finding(about, BAD, said, f"{mend}; what a group is to write, permissions give to copies")


def trusted(settings: Settings, files: Sequence[Path]) -> Iterator[Finding]:
    """Check that no other account can change the configuration, or the programs here."""
    about, code, sites = "configuration", config.HOME / "workflow", Path(settings.site_files)
    packages = Path(sysconfig.get_path("purelib"))
    tops = (config.HOME, Path(sys.prefix))
    looked_at = [*files, *(file.parent for file in files), config.HOME, code, *code.glob("[!._]*")]
    looked_at += [sites, *sites.glob("[!.]*.yaml"), Path(sys.prefix), Path(sys.executable).parent]
    looked_at += [packages, *packages.glob("[!._]*")]
    # What leads to a profile, where `make install` has linked it.
    looked_at += [file.parent.parent for file in files if file.parent.is_symlink()]
    looked_at = list(dict.fromkeys(looked_at))
    good = True
    for why, verdict in ((owners.shared, BAD), (owners.foreign, DOUBTFUL)):
        found = [(path, said) for path in looked_at if (said := _others(path, why))]
        for path, said in found[:1]:
            more = f", as {words.count(len(found) - 1, 'other')}" if len(found) > 1 else ""
            top = next((each for each in tops if each in (path, *path.parents)), path)
            what = f"{path} {said}{more}: they can have this account do anything"
            fix = "trust that account, or use a clone of your own"
            if verdict == BAD:
                fix = f"see what was changed, then: chmod -R go-w {shlex.quote(str(top))}"
            yield Finding(about, verdict, what, fix)
        good = good and not found
    places = (*tops, *(file.parent for file in files))
    over = dict.fromkeys(one for place in places for one in above(about, str(place)))
    yield from over
    if good and not over:
        yield Finding(about, GOOD, "no other account may write to it, nor to the programs here")


def _others(path: Path, why: Callable[[os.stat_result], str]) -> str:
    try:
        return why(path.stat())
    except OSError:
        return ""


def written(folder: str) -> tuple[str, list[tuple[str, str, bool]]]:
    """Write to a folder whatever we write, and remove it; what that shows, and what is refused, in words."""
    if preview.only_looks():
        return "is there, and was not written to (dry: true)", []
    try:
        return "can be written", trials.refuses(folder, abilities.numbers())
    except OSError as error:
        mend = f"ls -ld {shlex.quote(folder)}; ask its owner"
        raise CaxflowError(f"{folder} cannot be written: {error.strerror}", mend) from error


def remarks(about: str, folder: str, refused: Iterable[Sequence]) -> Iterator[Finding]:
    """Yield what the file system of a folder refuses, one finding each."""
    mend = "ask who keeps the file system, or name another folder"
    for what, lost, fails in refused:
        said = f"{folder}: {legible.line(what)}: {legible.line(lost)}"
        yield Finding(about, BAD if fails else DOUBTFUL, said, mend if fails else f"{mend}, if that matters")


def free(folder: str) -> int | None:
    """Return the bytes that are free; None where that is not told."""
    try:
        return abilities.free_space(folder)
    except OSError:
        return None


def _failed_jobs(settings: Settings, folder: str) -> Iterator[Finding]:
    if left := products.failed(Path(folder)):
        size = sum(path.lstat().st_size for each in left for path in each.rglob("*") if path.is_file())
        many = words.count(len(left), "directory")
        said = f"{many} of failed jobs, {words.size(size)}, in {folder}/{products.JOBS}"
        yield Finding(
            "failed jobs", GOOD, f"{said}; they go {settings.keep_failed:g} days after their last file"
        )
