"""Documents as nobody should write them: each is told in words about its run, and all other runs go on."""

import datetime
import json
import re

import pytest

from copies import SITES, Copies
from experiment import written

GOOD = "160315_1432"
DAY = datetime.datetime(2016, 3, 15)
LNGS, MIDWAY = SITES["lngs"], SITES["midway"]


class Case:
    """How a run's document is spoiled, and the words that are said of it; without words all goes well.

    `unselected`: planning is not even given it, so only the check of the database says them.
    """

    def __init__(self, spoil, said=None, *, unselected=False):
        self.spoil, self.said, self.unselected = spoil, said, unselected


def entry(**changes):
    """Change the entry of the copy at lngs."""
    return lambda document: document["data"][0].update(changes)


def note(**changes):
    """Change what caxflow noted in that entry."""
    return lambda document: document["data"][0]["caxflow"].update(changes)


def own(**changes):
    """Change what caxflow noted of the run."""
    return lambda document: document.setdefault("caxflow", {}).update(changes)


def top(**changes):
    return lambda document: document.update(changes)


def otherwise(how):
    return lambda document: document.update(written(document, how))


def without(*names):
    return lambda document: [document.pop(name, None) for name in names]


def also(**changes):
    """Add an entry like the one of lngs."""
    return lambda document: document["data"].append(document["data"][0] | changes)


CASES = {
    "no name": Case(without("name"), "has name None"),
    "no detector": Case(without("detector"), "detector None", unselected=True),
    "a name that is a path": Case(top(name="../../etc"), "'../../etc'"),
    "a name that is a number": Case(top(name=1603151432), "has name 1603151432"),
    "a detector that there is not": Case(top(detector="neutron_veto"), "neutron_veto", unselected=True),
    "two entries for a copy": Case(also(), "2 entries for its raw copy at xe1t-datamanager"),
    "a location outside": Case(entry(location="/etc"), "outside"),
    "a location that goes up": Case(entry(location="/data/../../etc/passwd"), "outside"),
    "a location with a line break": Case(entry(location="/data/x\n[31mred"), "outside"),
    "no location": Case(lambda document: document["data"][0].pop("location"), "no status or location"),
    "a location that is a list": Case(entry(location=["/data"]), "no status or location"),
    "no status": Case(lambda document: document["data"][0].pop("status"), "no status or location"),
    "no data": Case(without("data"), "no site has a raw copy for midway"),
    "data that is a word": Case(top(data="many"), "no site has a raw copy for midway"),
    "no end": Case(without("end"), "it is still being taken"),
    "an end that is a word": Case(top(end="soon"), "160101_1500: end is 'soon', not a time"),
    "a location of another run": Case(
        entry(location="{root}/160101_9999"), "160101_9999, which is not called 160101_1600"
    ),
    "a manifest that nobody has": Case(
        entry(manifest="xxh128:" + "0" * 32), "160101_1700 at lngs is not complete"
    ),
    "a manifest that is a number": Case(entry(manifest=7), "160101_1800 at lngs is not complete"),
    "times that are lists": Case(entry(creation_time=[DAY, DAY]), None),
    "a start that is a word": Case(top(start="early"), None),
    "no start": Case(without("start"), None),
    "tags that are a word": Case(top(tags="good"), None),
    "no trigger, no reader, no number": Case(without("trigger", "reader", "number"), None),
    "a size below nothing": Case(top(raw_size_byte=-5), None),
    "entries that are none": Case(lambda document: document["data"].extend([None, 7, "x", {}, []]), None),
    "a note that is a word": Case(entry(caxflow="x"), None),
    "times of a note that are words": Case(note(verified="lately", lease="long"), None),
    "what caxflow noted is a list": Case(top(caxflow=[1]), "its key caxflow is no mapping", unselected=True),
    "what went is a word": Case(own(gone="all"), None),
    "what went is half a record": Case(own(gone=[{"type": "raw", "host": MIDWAY}, 5]), None),
    "a revision that is a word": Case(own(revision="x"), "its document does not take what is to be told"),
    "what caxflow noted is a word": Case(top(caxflow="x"), "its document does not take what is to be told"),
    "a copy that is not there": Case(
        entry(location="{root}/sr0/160102_0900"), "160102_0900: its raw copy at lngs is not"
    ),
    "numbers and times of other types": Case(otherwise("decimals"), None),
    "numbers and times that are texts": Case(otherwise("texts"), None),
    "numbers and times that are lists and doubles": Case(otherwise("doubles"), None),
    "numbers that are words": Case(
        top(number="many", raw_size_byte="big", trigger={"events_built": "8?"}), None
    ),
}


def spoiled(copies):
    """Put all of them into the database, each a run of its own; their names by case."""
    names = {}
    for number, (case, made) in enumerate(CASES.items()):
        run = f"16010{number // 24 + 1}_{number % 24:02}00"
        document = copies.add(run, sites=["lngs"])
        copies.database.runs.delete_one({"_id": document["_id"]})
        made.spoil(document)
        data = document.get("data")
        if isinstance(data, list) and isinstance(data[0].get("location"), str):
            data[0]["location"] = data[0]["location"].replace("{root}", str(copies.path("lngs").parent))
        copies.database.runs.insert_one(document)
        names[case] = run
    return names


@pytest.fixture
def copies(tmp_path, database, database_uri):
    with Copies(tmp_path, database_uri, database.name) as copies:
        yield copies


def test_bad_documents_are_told_and_all_other_runs_go_on(copies, zygote):
    copies.add(GOOD, sites=["lngs"])
    names = spoiled(copies)
    overrides = copies.overrides()
    for call in (1, 2):
        done = zygote.call("perform", "all", overrides)
        assert done["status"] in (0, 1), done["said"]
        # The first few are said, all are kept for the page.
        kept = json.loads((copies.work() / ".caxflow/plan.json").read_text())["problems"]
        said = "\n".join([done["out"], done["said"], *kept])
        assert "\x1b" not in said
        for case, run in names.items():
            whole = copies.whole("midway", run) and copies.whole("tegner", run)
            if CASES[case].said is None:
                assert whole, f"{case}: {said}"
            elif call == 1 and not CASES[case].unselected:
                assert CASES[case].said in said, f"{case}: {said}"
        assert copies.whole("midway", GOOD)
        assert copies.whole("tegner", GOOD)


COMMANDS = [
    ["status"],
    ["status", "--json"],
    ["why", GOOD],
    ["strays"],
    ["strays", "--at", "lngs", "--json"],
    ["rundb", "check"],
    ["rundb", "rebuild"],
    ["page", "{folder}/page"],
    ["doctor"],
    ["rm", GOOD, "-n"],
]


def test_no_command_stumbles_over_bad_documents(copies, zygote):
    copies.add(GOOD)
    names = spoiled(copies)
    profile = copies.profile(purge={"after_days": 1, "processed": False}, scrub={"every_days": 0})
    overrides = copies.overrides(purge={"after_days": 1, "processed": False}, scrub={"every_days": 0})
    for wanted in [*COMMANDS, *(["why", run] for run in list(names.values())[::3])]:
        words = [word.format(folder=copies.folder) for word in wanted]
        done = zygote.call("command", [*words, "--profile", profile])
        assert done["status"] in (0, 1), f"{words}: {done['said']}"
        assert "Traceback" not in done["out"], words
        assert "\x1b" not in done["out"], words
        if words == ["rundb", "check"]:
            for case in CASES.values():
                assert not case.unselected or case.said in done["out"], done["out"]
    done = zygote.call("perform", "scrub", overrides)
    assert done["status"] in (0, 1), done["said"]
    assert f"raw {GOOD}" in done["out"]
    done = zygote.call("perform", "purge", overrides)
    assert done["status"] == 0, done["said"]
    assert copies.row("midway", GOOD) is None
    assert not re.search(r"^caxflow: .*unexpected", done["out"] + done["said"], re.MULTILINE)
