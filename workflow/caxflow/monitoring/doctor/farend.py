"""The far end of a partner: start-up files, Python, what its file systems refuse, clock, the way back."""

import dataclasses
import json
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from caxflow import abilities, legible
from caxflow.config import Settings, Site, reach
from caxflow.monitoring.doctor import trials, typed
from caxflow.monitoring.doctor.finding import BAD, DOUBTFUL, GOOD, Finding, clock
from caxflow.monitoring.doctor.folders import remarks
from caxflow.monitoring.doctor.login import Login, Said
from caxflow.transfer import Place, ssh

_GUARDS = 64
_GUARD = "caxflow guards"  # a line that a start-up file may read, so that it is missed
_ANSWER = "caxflow answers "
# Without a line break, `!` or single quote, so that any login shell passes it on as it is.
_LOADER = (
    "import sys;t=sys.stdin.read();h,m,p=t.partition(chr(10)+chr(10));"
    f'print(chr(10)+"{_ANSWER}"+str(t.count("{_GUARD}"))+" "+str(len(p)));sys.stdout.flush();'
    'sys.argv=["-"]+sys.argv[1:];exec(compile(p,"<trials>","exec"),{"__name__":"__main__"})if p else 0'
)


def examine(site: Site, place: Place, roots: list[str]) -> Iterator[Finding]:
    """Run the trials there, in `roots` those of file systems too.

    One login does it all, and its input tells whether a start-up file has read of it.
    """
    about = f"site {site.name}"
    began = time.time()
    said, noise, read, found = _probe(place, roots)
    ended = time.time()
    yield from _noise(about, place, noise, read, said.complaints if found else ())
    if found is None:
        if not read:
            why = said.failed or (said.complaints or ("no answer",))[-1]
            mend = typed.there(place, f"{place.python} --version")
            yield Finding(f"Python at {site.name}", DOUBTFUL, f"it was not tried: {why}", f"try: {mend}")
        return
    yield from _python(site, place, found)
    for root, refused in found["refuses"].items():
        kind = next((kind for kind, path in site.roots.items() if path == root), "")
        yield from remarks(f"{kind} data at {site.name}", root, refused)
    # The clock was read while this ran.
    off = max(0.0, began - found["time"], found["time"] - ended)
    yield clock(f"clock at {site.name}", off, "ours")


def start_up(site: Site, place: Place) -> list[Finding]:
    """Return what start-up files there do that keeps every program of ours from starting."""
    _, noise, read, _ = _probe(place, [])
    return list(_noise(f"site {site.name}", place, noise, read)) if read else []


def way_back(settings: Settings, site: Site, place: Place) -> Iterator[Finding]:
    """Check whether a partner reaches us where its own workflow must."""
    about, here = f"site {site.name}", settings.here
    if here.name not in (*site.pull_from, *site.push_to):
        return
    back = reach.place(dataclasses.replace(settings, here=site), here)
    if not back.remote:
        return
    said = Login(place, shlex.join([*ssh.arguments(back), "echo caxflow-was-here"])).end()
    if b"caxflow-was-here" in said.out:
        yield Finding(about, GOOD, f"reaches {here.name} over SSH, as its own workflow does")
    else:
        mend = f"at {site.name}: caxflow doctor --profile {site.name} {here.name}"
        why = said.complaints[-1] if said.complaints else said.failed or "no answer"
        yield Finding(about, DOUBTFUL, f"does not reach {here.name}: {why}", mend)


def _probe(place: Place, roots: list[str]) -> tuple[Said, str, bool, Mapping[str, Any] | None]:
    """Run the trials: what was said, what was printed before them, whether input was read, the result."""
    command = shlex.join([place.python, "-c", _LOADER, json.dumps(abilities.numbers()), *roots])
    program = Path(trials.__file__).read_text(encoding="ascii")
    said = Login(place, command).end((f"{_GUARD}\n" * _GUARDS + "\n" + program).encode())
    noise, answer, rest = said.out.decode(errors="replace").partition(f"\n{_ANSWER}")
    if not answer:
        return said, "", False, None
    counted, _, lines = rest.partition("\n")
    read = counted.split() != [str(_GUARDS), str(len(program))]
    try:
        found = json.loads(lines.strip().splitlines()[-1])
        lacks = [(str(what), str(lost)) for what, lost in found["lacks"]]
        refuses = {
            str(root): [(str(what), str(lost), bool(fails)) for what, lost, fails in rows]
            for root, rows in found["refuses"].items()
        }
        known = {"python": str(found["python"]), "time": float(found["time"])}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return said, noise, read, None
    return said, noise, read, known | {"lacks": lacks, "refuses": refuses}


def _noise(
    about: str, place: Place, noise: str, read: bool, complaints: Sequence[str] = ()
) -> Iterator[Finding]:
    """Yield what start-up files do that they should not do for programs."""
    where = "of the account there, as ~/.bashrc: let them do so only where a terminal is ([ -t 0 ])"
    if read:
        said = f"start-up files at {place.host} read what is meant for the program that is started"
        yield Finding(about, BAD, f"{said}: no copy gets there", f"look into those {where}")
    if text := " ".join(noise.split()):
        said = f"start-up files at {place.host} print: {legible.line(text, 60)!r}"
        said += "; rsync, scp and sftp may fail of that"
        yield Finding(about, DOUBTFUL, said, f"look into those {where}")
    if complaints:
        said = f"start-up files at {place.host} complain: {legible.line(complaints[0], 100)!r}"
        said += "; where something fails, that may be told in the place of its cause"
        yield Finding(about, DOUBTFUL, said, f"look into those {where}")


def _python(site: Site, place: Place, found: Mapping[str, Any]) -> Iterator[Finding]:
    about = f"Python at {site.name}"
    version = legible.line(found["python"], 40)
    for what, lost in found["lacks"]:
        mend = "name another in access.python of its file, if that matters"
        if "xxhash" in what:
            mend = typed.there(place, f"{place.python} -m pip install --user xxhash")
        said = f"{place.python} {version}: {legible.line(what)}: {legible.line(lost)}"
        yield Finding(about, DOUBTFUL, said, mend)
    if not found["lacks"]:
        yield Finding(about, GOOD, f"{place.python} {version} has all that is of use")
