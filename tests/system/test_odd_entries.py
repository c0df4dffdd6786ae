"""B1, R10: fields as no program should write them stop no command and no other run, and condemn no copy."""

import datetime
import itertools

import bson
import pytest

from copies import SITES, Copies

GOOD = "170315_1432"
DAY = datetime.datetime(2016, 3, 15)
MIDWAY = SITES["midway"]
# What a field may hold instead.
ODD = [5, "x", [[5]], {"x": {"y": 5}}, True, float("nan"), bson.Decimal128("1E+40"), b"\xff\x00"]
ODD += [datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31, 23, 59, 59)]
READER = ["reader", "reader.self_trigger", "reader.ini.write_mode"]
READER += ["reader.ini.trigger_config_override.Zip.events_per_file"]
PARAMETERS = [f"DEFAULT.{name}_liquid" for name in ("drift_velocity", "electron_lifetime")]
PARAMETERS += ["DEFAULT.gains", "correction_versions"]
RUN = ["number", "start", "end", "trigger", "trigger.events_built", "raw_size_byte", "source.type", "tags"]
RUN += [*READER, "processor", *(f"processor.{name}" for name in PARAMETERS)]
RUN += ["caxflow", "caxflow.revision", "caxflow.gone"]
ENTRY = ["status", "location", "pax_version", "manifest", "checksum", "creation_time", "size", "caxflow"]
NOTE = {"owner": "midway", "token": "t", "lease": DAY, "since": DAY, "attempts": 1, "error": "no route"}
NOTE |= {"next": DAY, "by": {"host": "h", "user": "u", "pid": 5}, "version": "0.1.0", "verified": DAY}
NOTE |= {"correction_versions": {"AddGains": "5.0"}}
TRASH = "{root}/.caxflow-trash/{run}.t"
# Status, and what the note says beside that, of an entry with which something is being done.
STATES = {
    "run": ("transferred", NOTE),  # a field of the document
    "good": ("transferred", NOTE),
    "made": ("transferring", NOTE),
    "restored": ("transferred", {"restored": DAY}),
    "suspect": ("error", {"suspect": {"token": "t", "quarantine": "{root}/x", "at": DAY}}),
    "removing": (
        "transferred",
        {"removing": {"trash": TRASH, "token": "t", "why": "removed", "emptied": DAY}},
    ),
    "moving": ("transferred", {"moving": {"from": "{root}/{run}", "to": "{root}/sr0/{run}"}}),
    "left": ("transferred", {"left": {"path": "{root}/old/{run}", "at": DAY}}),
}


def fields(state):
    """Fields of the entry of a state, as paths; of the entry itself only once."""
    if state == "run":
        yield from RUN
        return
    if state == "good":
        yield from ENTRY
    for key, value in STATES[state][1].items():
        yield f"caxflow.{key}"
        yield from (f"caxflow.{key}.{each}" for each in value) if isinstance(value, dict) else ()


def filled(value, **names):
    """What a state says, with the names of a run in it."""
    if isinstance(value, dict):
        return {key: filled(each, **names) for key, each in value.items()}
    return value.format(**names) if isinstance(value, str) else value


def spoil(copies, state, run, field, value):
    """Make copies of a run; its entry at midway is that of the state, but for one field."""
    copies.add(run)
    entry, (status, note) = copies.row("midway", run), STATES[state]
    root = copies.path("midway").parent
    entry["status"] = status
    entry["caxflow"] = NOTE | {"verified": entry["caxflow"]["verified"]} | filled(note, root=root, run=run)
    found = copies.database.runs.find_one({"name": run})
    found["data"] = [entry if each["host"] == MIDWAY else each for each in found["data"]]
    at, (*above, last) = found if state == "run" else entry, field.split(".")
    for key in above:
        at = at.setdefault(key, {})
    at[last] = value
    copies.database.runs.replace_one({"name": run}, found)


def broken(copies, runs):
    """Yield those of the runs that have a copy whose status is error."""
    for run in runs:
        data = copies.database.runs.find_one({"name": run})["data"]
        if any(each.get("status") == "error" for each in data):
            yield run


@pytest.fixture
def copies(tmp_path, database, database_uri):
    with Copies(tmp_path, database_uri, database.name) as copies:
        yield copies


@pytest.mark.parametrize("state", STATES)
def test_b1_an_odd_field_of_an_entry_stops_no_command_and_no_other_run(copies, zygote, state):
    purge = {"after_days": 1, "processed": False, "at_most": {"runs": 5000}}
    keys = {"purge": purge, "scrub": {"every_days": 0}, "batch_size": 5000}
    profile, overrides = ["--profile", copies.profile(**keys)], copies.overrides(**keys)
    runs = {}
    # Each field with every third value, another third than the field before: there are ten.
    odd = itertools.islice(itertools.product(fields(state), ODD), 0, None, 3)
    for number, (field, value) in enumerate(odd):
        run = f"{DAY + datetime.timedelta(minutes=number):%y%m%d_%H%M}"
        spoil(copies, state, run, field, value)
        runs[run] = f"{field}: {value}"
    copies.add(GOOD)

    def check(done):
        said = done["out"] + done["said"]
        assert done["status"] in (0, 1), said
        wrong = [line for line in said.splitlines() if "unexpected" in line or "Traceback" in line]
        assert not wrong, [(line, [what for run, what in runs.items() if run in line]) for line in wrong]

    def call(*calls):
        check(zygote.call("commands", [[*words, *profile] for words in calls]))

    root = copies.path("midway").parent
    call(
        ["status"], ["strays"], ["rundb", "check"], ["page", f"{copies.folder}/page"], ["shadow"], ["doctor"]
    )
    call(*(["why", run] for run in list(runs)[::3]))
    call(*(["rm", run, "-n"] for run in runs))
    call(*(["mv", run, "-n", "--to", f"{root}/sr1/{run}"] for run in runs))
    before = set(broken(copies, runs))
    for target in ("all", "scrub", "purge"):
        check(zygote.call("perform", target, overrides))
        assert not [runs[run] for run in broken(copies, runs) if run not in before]
    assert copies.row("midway", GOOD) is None  # purged, on the word of the others
    call(*(["rm", run, "--because", "full"] for run in runs))
    call(*(["mv", run, "--to", f"{root}/sr1/{run}"] for run in runs))
    call(["rundb", "rebuild"])
    for run, what in runs.items():
        assert copies.whole("lngs", run), what
        assert copies.whole("tegner", run), what
