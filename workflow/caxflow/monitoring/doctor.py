"""Checks what a site needs before its first run; each failure comes with the command that mends it.

What can be tried is tried: files are written and removed again, bytes travel, the database is written to.
"""

import contextlib
import dataclasses
import datetime
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from caxflow import config, preview, transfer, words
from caxflow.config import Settings, Site, calls, reach
from caxflow.copies import roots
from caxflow.errors import CaxflowError
from caxflow.monitoring import delivery
from caxflow.planning import planner
from caxflow.processing import products
from caxflow.processing.processors import Processor
from caxflow.rundb import RunsDB
from caxflow.transfer import Place

GOOD, DOUBTFUL, BAD = "ok", "look", "FAIL"
LITTLE = {"raw": 1e12, "processed": 1e11, "minitrees": 1e10}  # bytes; raw: what a day brings
SKEW = 60  # s
# Programs of batch systems, and one that asks whether the system answers.
BATCH = {
    "slurm": (("sbatch", "squeue", "scancel"), ["sinfo", "--noheader"]),
    "htcondor": (("condor_submit", "condor_q", "condor_rm"), ["condor_q", "-totals"]),
}


@dataclass(frozen=True)
class Finding:
    """What one check found; `mend` is a command or what else to do."""

    about: str
    verdict: str
    said: str
    mend: str = ""


def examine(settings: Settings, profile: Path | None, only: Site | None = None) -> Iterator[Finding]:
    """Check everything, or only what concerns one partner.

    Parameters
    ----------
    profile : Path or None
        Folder of the profile that snakemake is given.
    only : Site, optional
        The partner.
    """
    here = settings.here
    if only is None or only.name == here.name:
        yield from _guarded("profile", lambda: _profile(profile))
        yield from _guarded("work directory", lambda: _work_dir(settings))
        for kind in here.roots:
            yield from _guarded(f"{kind} data here", lambda kind=kind: _own_root(settings, kind))
        yield from _guarded("processor", lambda: _processor(settings))
        name = _as_typed(profile) if profile else here.name
        yield from _guarded("runs database", lambda: _database(settings, name))
        for about, check in _reports(settings):
            yield from _guarded(about, check)
    partners = [only] if only and only.name != here.name else _partners(settings) if only is None else []
    with ThreadPoolExecutor(4) as pool:
        for findings in pool.map(lambda site: list(_partner(settings, site)), partners):
            yield from findings
    for said in roots.shared(settings, [here, *partners]):
        mend = "give each site folders of its own, or make them one site: copies there are one copy"
        yield Finding("storage", BAD, said, mend)


def _guarded(about: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Turn an error into a finding; the other checks go on."""
    try:
        yield from check()
    except CaxflowError as error:
        yield Finding(about, BAD, error.what, error.mend)


def _partners(settings: Settings) -> list[Site]:
    here = settings.here
    return [settings.sites[name] for name in dict.fromkeys((*here.pull_from, *here.push_to))]


def _profile(folder: Path | None) -> Iterator[Finding]:
    if folder is None:
        yield Finding("profile", DOUBTFUL, "none was named, so it was not looked at", "add --profile SITE")
        return
    yield _found_by_snakemake(folder)
    executor = config.read_yaml(calls.newest(folder)).get("executor", "local")
    programs, question = BATCH.get(executor, ((), None))
    if executor not in ("local", "dryrun"):
        plugin = f"snakemake_executor_plugin_{executor.replace('-', '_')}"
        yield _installed(plugin, f"make install EXTRAS={executor.replace('cluster-', '')}")
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        mend = f"log in where {executor}'s commands are, or add them to PATH"
        yield Finding("batch system", BAD, f"{', '.join(missing)} not found", mend)
    elif question:
        yield _answers(executor, question)
    yield _installed("snakemake_logger_plugin_caxflow", "make install")


def _found_by_snakemake(folder: Path) -> Finding:
    """Whether ``snakemake --profile NAME`` finds the profile by its name alone, from the clone."""
    name = _as_typed(folder)
    if folder.name == name and Path(name).is_dir():
        said = f"a folder {name} in {Path.cwd()} hides the profile from snakemake"
        return Finding("profile", BAD, said, f"mv {shlex.quote(name)} {shlex.quote(name)}.old")
    if config.HOME / "profiles" in folder.parents:
        said = f"{folder} is not linked to where snakemake looks"
        return Finding("profile", BAD, said, "make install")
    return Finding("profile", GOOD, f"snakemake --profile {name} finds {folder}")


def _as_typed(folder: Path) -> str:
    """What snakemake is given: the profile's name, where that leads to it, or its path."""
    found = folder.parent.name == "snakemake" or config.HOME / "profiles" in folder.parents
    return folder.name if found else str(folder)


def _installed(module: str, mend: str) -> Finding:
    from importlib.util import find_spec

    name = module.replace("_", "-")
    if find_spec(module) is None:
        return Finding("plugin", BAD, f"{name} is not installed for {sys.executable}", mend)
    return Finding("plugin", GOOD, f"{name} is installed")


def _answers(name: str, question: list[str]) -> Finding:
    try:
        done = subprocess.run(question, capture_output=True, text=True, timeout=20, check=False)
        said, good = (done.stderr or done.stdout).strip().splitlines()[:1], done.returncode == 0
    except (OSError, subprocess.TimeoutExpired) as error:
        said, good = [str(error)], False
    asked = shlex.join(question)
    if good:
        return Finding("batch system", GOOD, f"{name} answers {asked}")
    return Finding(
        "batch system", BAD, f"{asked}: {' '.join(said) or 'no answer'}", f"try it by hand: {asked}"
    )


def _work_dir(settings: Settings) -> Iterator[Finding]:
    folder = planner.work_dir(settings)
    if not Path(folder).is_dir():
        yield Finding("work directory", DOUBTFUL, f"{folder} is no folder yet; the first call makes it")
        return
    found = _write_once(folder)
    free = shutil.disk_usage(folder).free
    yield Finding("work directory", GOOD, f"{folder} {found}, {words.size(free)} free")
    if left := products.failed(Path(folder)):
        size = sum(path.lstat().st_size for each in left for path in each.rglob("*") if path.is_file())
        many = words.count(len(left), "directory")
        said = f"{many} of failed jobs, {words.size(size)}, in {folder}/{products.JOBS}"
        yield Finding(
            "failed jobs", GOOD, f"{said}; they go {settings.keep_failed:g} days after their last file"
        )


def mark_roots(settings: Settings, site: Site, *, replaced: bool) -> Iterator[Finding]:
    """Give the roots of a site their markers, see `caxflow.copies.roots.mark`."""
    with RunsDB(settings.rundb, dry=settings.dry) as database:
        for kind, root in site.roots.items():
            about = f"{kind} data at {site.name}"
            try:
                made = roots.mark(settings, database, site, kind, replaced=replaced)
            except CaxflowError as error:
                yield Finding(about, BAD, error.what, error.mend)
            else:
                how = "is marked already" if not made else "would be marked" if settings.dry else "is marked"
                yield Finding(about, GOOD, f"{root} {how} as that of site {site.name}")


def _not_marked(settings: Settings, site: Site, kind: str, about: str, *, written: bool) -> list[Finding]:
    """What is wrong with the marker of a root; nothing if that is there, or comes with the first copy."""
    try:
        roots.check(settings, site, kind)
        return []
    except CaxflowError as error:
        wrong = error
    if roots.identity(reach.place(settings, site), site.roots[kind]) is None:
        with contextlib.suppress(CaxflowError), RunsDB(settings.rundb, dry=True) as database:
            if roots.is_new(settings, database, site, kind):
                return []
        if not written:
            said = f"{wrong.what}, or nobody has marked it; it can be read, and nothing is condemned there"
            return [Finding(about, DOUBTFUL, said, wrong.mend)]
    return [Finding(about, BAD, wrong.what, wrong.mend)]


def _own_root(settings: Settings, kind: str) -> Iterator[Finding]:
    here = settings.here
    about, root = f"{kind} data here", here.roots[kind]
    quoted = shlex.quote(root)
    if not Path(root).is_dir():
        yield Finding(about, BAD, f"{root} is no folder", f"mkdir -p {quoted}")
        return
    if not os.access(root, os.R_OK | os.X_OK):
        yield Finding(about, BAD, f"{root} cannot be read", f"chmod u+rx {quoted}, as its owner")
        return
    read_only = here.origin and not here.pull_from and kind == "raw"
    if wrong := _not_marked(settings, here, kind, about, written=not read_only):
        yield from wrong
        return
    if read_only:
        yield Finding(about, GOOD, f"{root} can be read; data are born here, nothing is written")
        return
    yield _space(about, root, kind, shutil.disk_usage(root).free, _write_once(root))


def _space(about: str, root: str, kind: str, free: int, found: str = "can be written") -> Finding:
    if free < LITTLE[kind]:
        said = f"{root} {found}, but only {words.size(free)} are free"
        return Finding(about, DOUBTFUL, said, f"df -h {shlex.quote(root)}; free some, or name another folder")
    return Finding(about, GOOD, f"{root} {found}, {words.size(free)} free")


def _write_once(folder: str) -> str:
    """Write a file, make it durable, rename and remove it; what that shows, in words."""
    if preview.only_looks():
        return "is there, and was not written to (dry: true)"
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".caxflow-doctor-", delete=False) as file:
            file.write(b"a trial\n")
            file.flush()
            os.fsync(file.fileno())
        second = Path(f"{file.name}.renamed")
        Path(file.name).rename(second)
        second.unlink()
    except OSError as error:
        raise CaxflowError(
            f"{folder} cannot be written: {error.strerror}", f"ls -ld {shlex.quote(folder)}; ask its owner"
        ) from error
    return "can be written"


def _processor(settings: Settings) -> Iterator[Finding]:
    here = settings.here
    if here.processed is None or not here.processed.make:
        return
    processor = settings.processor(here)
    program, where = _program(processor)
    if processor.inherits:
        where += f"; its command inherits {processor.inherits}, which null takes out"
    if program is None:
        yield Finding("processor", GOOD, f"{processor.name} is the embedded one")
    elif shutil.which(program) is None:
        mend = f"install {program}, or mend processors.{processor.name} in config.yaml"
        yield Finding("processor", BAD, f"{processor.name}: {program} is not on the PATH{where}", mend)
    else:
        yield Finding("processor", GOOD, f"{processor.name}: {program} is there{where}")


def _program(processor: Processor) -> tuple[str | None, str]:
    """The program that must be on our PATH for a processor; what it starts may be elsewhere."""
    if processor.template is None:
        return None, ""
    environment = processor.environment
    if environment.setup or environment.module:
        return "bash", "; what its environment has is not looked at"
    if environment.conda:
        return "conda", f"; its environment {environment.conda} is not looked at"
    if environment.container:
        return "apptainer", f"; its image {environment.container} is not looked at"
    return processor.template.words[0], ""


def _database(settings: Settings, profile: str) -> Iterator[Finding]:
    about = "runs database"
    with RunsDB(settings.rundb) as database:
        before = time.time()
        theirs = database.now()
        took = time.time() - before
        where = f"{settings.rundb.database}.{settings.rundb.collection}"
        yield Finding(about, GOOD, f"{where} answers in {1000 * took:.0f} ms")
        ours = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        yield _clock("clock", abs((theirs - ours).total_seconds()), "the runs database's")
        if settings.dry:
            yield Finding(about, DOUBTFUL, "dry is set: nothing is written to it", "--config dry=false")
        else:
            database.try_writing()
            yield Finding(about, GOOD, "can be written to")
        missing = database.missing_indexes(settings.here.name)
        if missing:
            mend = f"caxflow rundb init --profile {profile}"
            yield Finding(about, BAD, f"indexes are missing: {', '.join(missing)}", mend)
        else:
            yield Finding(about, GOOD, "has its indexes")


def _reports(settings: Settings) -> Iterator[tuple[str, Callable[[], Iterator[Finding]]]]:
    """What people look at and are told by, as far as it is configured."""
    if settings.page:
        yield "runs page", lambda: _kept_in("runs page", Path(settings.page.folder))
    if settings.metrics:
        yield "metrics", lambda: _kept_in("metrics", Path(settings.metrics).parent)
    if settings.notify and settings.notify.webhook:
        yield "webhook", lambda: _would_tell("webhook", delivery.try_webhook)
    if settings.notify and (mail := settings.notify.mail):
        yield "mail", lambda: _would_tell("mail", lambda: delivery.try_mail(mail))


def _kept_in(about: str, folder: Path) -> Iterator[Finding]:
    if not folder.is_dir():
        said = f"{folder} is no folder yet; it is made when it is needed"
        yield Finding(about, DOUBTFUL, said, f"mkdir -p {shlex.quote(str(folder))}")
        return
    yield Finding(about, GOOD, f"{folder} {_write_once(str(folder))}")


def _would_tell(about: str, attempt: Callable[[], None]) -> Iterator[Finding]:
    attempt()
    yield Finding(about, GOOD, "would take a message; none was sent")


def _clock(about: str, off: float, whose: str) -> Finding:
    if off > SKEW:
        said = f"{words.duration(off)} off {whose}: leases hold all the same, times in receipts are wrong"
        return Finding(about, DOUBTFUL, said, "timedatectl set-ntp true")
    return Finding(about, GOOD, f"within {max(1, round(off))} s of {whose}")


def _partner(settings: Settings, site: Site) -> Iterator[Finding]:
    """Everything about one partner; after the first failure the rest would fail for the same reason."""
    about = f"site {site.name}"
    try:
        place = reach.place(settings, site)
        transfer.exists(place, site.roots["raw"])
        how = f"over SSH to {place.host}, its host key is known" if place.remote else "as a folder here"
        yield Finding(about, GOOD, f"reached {how}")
        kept = [name for name in settings.kinds if name in site.roots and (name == "raw" or site.processed)]
        for kind in kept:
            yield from _far_root(settings, site, place, kind)
        if place.remote and place.method == "stream":
            yield from _far_end(settings, site, place)
    except CaxflowError as error:
        mend = error.mend
        if found := re.search("host key of .* (is not known|has changed)", error.what):
            command = _host_key(place, changed=found[1] == "has changed")
            mend = f"{command}, once its manager has told you the same fingerprint"
        yield Finding(about, BAD, error.what.removeprefix(f"{site.name}: "), mend)


def _far_root(settings: Settings, site: Site, place: Place, kind: str) -> Iterator[Finding]:
    about, root = f"{kind} data at {site.name}", site.roots[kind]
    if transfer.exists(place, root) != "directory":
        yield Finding(about, BAD, f"{root} is no folder", _by_hand(place, f"mkdir -p {shlex.quote(root)}"))
    elif wrong := _not_marked(settings, site, kind, about, written=site.name in settings.here.push_to):
        yield from wrong
    elif site.name in settings.here.push_to and not preview.only_looks():
        yield from _push(place, root, kind, about)
    else:
        yield Finding(about, GOOD, f"{root} is there, {words.size(transfer.free_space(place, root))} free")


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
            digest = transfer.take_manifest(place, f"{root}/{name}").algorithm
        finally:
            try:
                transfer.remove_tree(place, f"{root}/{name}", root=root)
            except CaxflowError as error:
                said = f"what is tried cannot be removed: {error.what}"
                yield Finding(about, DOUBTFUL, said, _by_hand(place, f"rm -r {root}/{name}"))
    yield _space(about, root, kind, transfer.free_space(place, root))
    if digest != "xxh128":
        mend = _by_hand(place, f"{place.python} -m pip install --user xxhash")
        said = f"{place.site} has no xxhash: both ends use {digest}, which is slower"
        yield Finding(about, DOUBTFUL, said, mend)


def _far_end(settings: Settings, site: Site, place: Place) -> Iterator[Finding]:
    """The partner's clock, and whether it reaches us where its own workflow must."""
    from caxflow.transfer import ssh

    about = f"site {site.name}"
    if shutil.which("ssh") is None:
        yield Finding(about, DOUBTFUL, "without OpenSSH's ssh here, the way back is not tried")
        return
    before = time.time()
    said = _run([*ssh.arguments(place), "date +%s"])
    if said.isdigit():
        yield _clock(
            f"clock at {site.name}", max(0.0, abs(int(said) - (before + time.time()) / 2) - 1), "ours"
        )
    here = settings.here
    if here.name not in (*site.pull_from, *site.push_to):
        return
    back = reach.place(dataclasses.replace(settings, here=site), here)
    if not back.remote:
        return
    command = [*ssh.arguments(back), "echo caxflow-was-here"]
    said = _run([*ssh.arguments(place), shlex.join(command)])
    if "caxflow-was-here" in said:
        yield Finding(about, GOOD, f"reaches {here.name} over SSH, as its own workflow does")
    else:
        said = f"does not reach {here.name}: {said or 'no answer'}"
        yield Finding(
            about, DOUBTFUL, said, f"at {site.name}: caxflow doctor --profile {site.name} {here.name}"
        )


def _run(command: list[str]) -> str:
    """The last line a command printed; of its chatter on standard error if it printed none."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=40, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("debug1:", "OpenSSH_"))]
    return next(iter([*reversed(done.stdout.split("\n")[:-1]), *reversed(lines)]), "").strip()


def _by_hand(place: Place, command: str) -> str:
    """A command at a partner, as one types it."""
    if not place.remote:
        return command
    words_ = ["ssh", *(["-F", place.ssh_config] if place.ssh_config else [])]
    words_ += [*(["-p", str(place.port)] if place.port else []), *(["-J", place.jump] if place.jump else [])]
    return shlex.join([*words_, f"{place.user}@{place.host}" if place.user else place.host, command])


def _host_key(place: Place, changed: bool) -> str:
    """Commands that take a host's key for known; one that has changed is forgotten first."""
    known = {
        "hostname": place.host,
        "port": str(place.port or 22),
        "userknownhostsfile": "~/.ssh/known_hosts",
    }
    # The name may be an alias of ssh_config, which ssh-keyscan does not read.
    said = _asked(["ssh", "-G", *(["-F", place.ssh_config] if place.ssh_config else []), place.host])
    known |= dict(line.split(" ", 1) for line in said.splitlines() if " " in line)
    host, port, file = known["hostname"], known["port"], known["userknownhostsfile"].split()[0]
    named = host if port == "22" else f"[{host}]:{port}"
    scan = f"{shlex.join(['ssh-keyscan', *(['-p', port] if port != '22' else []), host])} >> {file}"
    return f"{shlex.join(['ssh-keygen', '-R', named, '-f'])} {file} && {scan}" if changed else scan


def _asked(command: list[str]) -> str:
    """All that a command printed; nothing if it cannot be run."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
