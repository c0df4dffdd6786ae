"""What a purge removes and a scrub reads, by policy: the oldest, on evidence, within their budgets."""

import datetime
import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caxflow.config.retention import Demand
from caxflow.copies import evidence, purging
from caxflow.copies.removal import Removal
from caxflow.errors import CaxflowError
from caxflow.planning import decisions, plan, removals, upkeep
from caxflow.planning import readings as readings_of
from caxflow.rundb import REMOVING
from caxflow.targets import Run
from copies import SITES, Copies, now

PURGE = {"after_days": 30, "copies": 2, "verified_within_days": 3, "processed": False}


@pytest.fixture
def copies(tmp_path, database, database_uri):
    with Copies(tmp_path, database_uri, database.name) as copies:
        yield copies


def plan_purge(world, /, **purge):
    settings = world.settings(purge=PURGE | purge)
    return removals.select(world.database.runs.find(), settings, now()), settings


def chosen(made):
    return [str(each.run) for each in made.planned]


def test_the_oldest_go_first_up_to_the_ceiling(copies):
    for run in ("160317_0000", "160315_0000", "160316_0000"):
        copies.add(run)
    size = copies.row("lngs", "160315_0000")["size"]
    made, settings = plan_purge(copies, at_most={"runs": 2})
    assert chosen(made) == ["160315_0000", "160316_0000"]
    assert (made.bytes, made.later["raw"]) == (2 * size, 1)
    assert any("1 more raw copy may go" in line for line in removals.summary(made, settings))
    made, _ = plan_purge(copies, at_most={"bytes": size})
    assert chosen(made) == ["160315_0000"]


def test_each_is_said_with_its_size_and_its_evidence(copies):
    copies.add(verified_days_ago=1)
    copies.note("tegner", verified=now() - datetime.timedelta(days=5))
    made, settings = plan_purge(copies)
    (line,) = [line for line in removals.summary(made, settings) if line.startswith("remove ")]
    assert line not in removals.summary(made, settings, listed=False)
    assert line.startswith("remove 160315_1432 from midway, 11.0 kB; good copies: lngs (read again ")
    assert "tegner (is read first: it was last read" in line


@pytest.mark.parametrize(
    ("purge", "why"),
    [
        ({"after_days": 10_000}, "it is younger than 10000 days"),
        ({"copies": 3}, "3 other copies read again within 3 days wanted, 2 found"),
        ({"copies": 2}, ""),
    ],
)
def test_what_stays_and_why(copies, purge, why):
    copies.add()
    made, settings = plan_purge(copies, **purge)
    assert chosen(made) == ([] if why else ["160315_1432"])
    assert list(made.stay) == ([("raw", why)] if why else [])
    if why:
        assert f"1 raw copy here stays (160315_1432): {why}" in removals.summary(made, settings)


def test_runs_that_must_be_processed_first_stay(copies):
    document = copies.add()
    path = copies.folder / "config/sites/midway.yaml"
    path.write_text(path.read_text() + "processed: {version: mini_v1}\n")
    made, settings = plan_purge(copies, processed=True)
    assert list(made.stay) == [("raw", "it is not processed at midway")]
    version = settings.processor(settings.here).pax_version
    entry = {"type": "processed", "host": SITES["midway"], "status": "transferred"}
    entry |= {"location": settings.processed_path(settings.here, Run("160315_1432"))}
    entry |= {"pax_version": version, "caxflow": {"verified": now()}}
    copies.database.runs.update_one({"_id": document["_id"]}, {"$push": {"data": entry}})
    assert chosen(plan_purge(copies, processed=True)[0]) == ["160315_1432"]


def test_a_document_with_surprises_is_told_and_the_others_go_on(copies):
    copies.add()
    copies.database.runs.insert_one({"name": "../../etc", "detector": "tpc", "data": []})
    copies.add("160316_0000")
    copies.set("midway", "160316_0000", location="/etc")
    made, _ = plan_purge(copies)
    assert chosen(made) == ["160315_1432"]
    assert len(made.problems) == 2


def test_a_removal_that_was_begun_is_gone_on_with_whatever_the_policy(copies):
    copies.add()
    subject = copies.subject()
    begun = Removal(subject, Demand(), "a test")
    copy = subject.find(copies.database.get(Run("160315_1432")))
    begun.hearing.hear(copy)
    begun.intend(copy)
    made, _ = plan_purge(copies, after_days=10_000)
    assert [each.words for each in made.planned] == ["go on removing 160315_1432 from midway"]
    document = copies.database.get(Run("160315_1432"))
    decision = decisions.decide(document, copies.settings(), lambda _: None, now())
    assert decision.targets == ["midway/160315_1432.raw.purged"]


def decide(copies, here="midway", **overrides):
    document = copies.database.runs.find_one()
    return decisions.decide(document, copies.settings(here, **overrides), lambda _: None, now())


def test_what_the_policy_would_remove_is_not_fetched(copies):
    copies.add(sites=["lngs", "tegner"])
    assert decide(copies).targets == ["midway/160315_1432.checksum"]
    assert decide(copies, purge=PURGE).targets == []
    assert decide(copies, purge=PURGE | {"copies": 3}).targets == ["midway/160315_1432.checksum"]
    settings = copies.settings(purge=PURGE)
    assert plan.policy(settings) != plan.policy(copies.settings())


def test_what_was_removed_on_purpose_is_not_fetched_nor_pushed_again(copies):
    copies.add()
    Removal(copies.subject(), Demand(), "a test").perform()
    assert decide(copies).targets == []
    path = copies.folder / "config/sites/lngs.yaml"
    path.write_text(path.read_text() + "push_to: [midway]\n")
    assert decide(copies, "lngs").targets == []


def test_evidence_of_clocks_that_run_ahead_does_not_count_for_ever(copies):
    copies.add()
    subject = copies.subject()
    for ahead, counts in ((datetime.timedelta(minutes=10), True), (datetime.timedelta(days=400), False)):
        copies.note("tegner", verified=now() + ahead)
        document = copies.database.runs.find_one()
        found = evidence.witnesses(document, subject.find(document), subject.settings, Demand(), now())
        assert {each.site: each.counts for each in found} == {"lngs": True, "tegner": counts}


def readings(copies, **scrub):
    settings = copies.settings(scrub=scrub)
    found = readings_of.readings(copies.database.runs.find(), settings)
    return readings_of.select_readings(found, settings, now())


def test_a_scrub_takes_the_longest_unread_first_within_its_budget(copies):
    copies.add("160315_0000", verified_days_ago=40)
    copies.add("160316_0000", verified_days_ago=None)
    copies.add("160317_0000", verified_days_ago=50)
    copies.add("160318_0000", verified_days_ago=1)
    todo, oldest, count = readings(copies, every_days=30)
    assert [each.run for each in todo] == ["160316_0000", "160317_0000", "160315_0000"]
    assert (str(oldest), count) == ("raw 160316_0000, 11.0 kB, never read again", 3)
    size = copies.row("midway", "160315_0000")["size"]
    todo, _, count = readings(copies, every_days=30, at_most={"bytes": size})
    assert ([each.run for each in todo], count) == (["160316_0000"], 3)
    todo, _, _ = readings(copies, every_days=30, at_most={"bytes": 1})
    assert len(todo) == 1
    assert readings(copies, every_days=60)[2] == 1


def test_a_scrub_passes_over_what_is_not_good(copies):
    copies.add(verified_days_ago=40)
    copies.set("midway", status="error")
    assert readings(copies) == ([], None, 0)


def planned(copies, preview=False, purge=PURGE, **overrides):
    """What a purge plans, and what a scrub would read."""
    settings = copies.settings(purge=purge, scrub={"every_days": 0}, **overrides)
    planner = SimpleNamespace(
        settings=settings,
        database=copies.database,
        work_dir=copies.work(),
        lock=lambda: None,
        catch_up=lambda: None,
        preview=lambda: preview,
        take_up=lambda facts: None,
        plan=plan.Plan("midway"),
    )
    wanted = upkeep.Upkeep(planner)
    targets = wanted.purge()
    if preview:
        return targets, []
    wanted.scrub()
    readings = json.loads((copies.work() / readings_of.FILE).read_text())
    return targets, [each["run"] for each in readings]


def test_named_runs_bound_a_purge_and_a_scrub(copies):
    runs = ("160315_1432", "160315_1432_MV", "160316_0000")
    for run in runs:
        copies.add(run, verified_days_ago=0)
    for run in runs:
        assert planned(copies, runs=[run]) == ([f"midway/{run}.raw.purged"], [run])
    assert len(planned(copies)[0]) == 3
    subject = copies.subject(run="160316_0000")
    begun = Removal(subject, Demand(), "a test")
    copy = subject.find(copies.database.get(subject.run))
    begun.hearing.hear(copy)
    begun.intend(copy)
    assert planned(copies, runs=["160315_1432_MV"])[0] == ["midway/160315_1432_MV.raw.purged"]
    assert planned(copies)[0][0] == "midway/160316_0000.raw.purged"


def test_what_is_found_twice_counts_once(copies):
    document = copies.add()
    copies.database.runs.update_one({"_id": document["_id"]}, {"$set": {REMOVING: [SITES["midway"]]}})
    assert planned(copies)[0] == ["midway/160315_1432.raw.purged"]


def test_there_is_no_purge_without_a_policy(copies):
    copies.add()
    settings = copies.settings()
    assert settings.purge is None
    document = copies.database.runs.find_one()
    assert purging.not_due(document, settings.here, settings, now()) == "the policy removes nothing"
    planned = upkeep.Upkeep(type("Planner", (), {"settings": settings})())
    with pytest.raises(CaxflowError, match="nothing says what may be removed at midway"):
        planned.purge()


STATES = st.fixed_dictionaries(
    {
        "status": st.sampled_from(["transferred", "transferring", "error", "verifying"]),
        "manifest": st.sampled_from(["xxh128:" + "a" * 32, "xxh128:" + "b" * 32, None]),
        "age": st.sampled_from([None, -1000, 0, 1, 2.9, 3.1, 100]),
        "mark": st.sampled_from([None, "suspect", "removing"]),
        "inside": st.booleans(),
    }
)


@given(states=st.lists(STATES, min_size=3, max_size=3), wanted=st.integers(1, 3))
def test_evidence_is_what_a_plain_reading_of_the_rule_says(states, wanted):
    sites = {
        name: type("Site", (), {"name": name, "host": host, "roots": {"raw": "/data"}})()
        for name, host in SITES.items()
    }
    settings = type("Settings", (), {"sites": sites})()
    clock, data, expected = datetime.datetime(2020, 1, 1), [], 0
    for (name, host), state in zip(SITES.items(), states, strict=True):
        note = {state["mark"]: {"x": 1}} if state["mark"] else {}
        if state["age"] is not None:
            note["verified"] = clock - datetime.timedelta(days=state["age"])
        location = "/data/160315_1432" if state["inside"] else "/elsewhere/160315_1432"
        entry = {
            "type": "raw",
            "host": host,
            "status": state["status"],
            "location": location,
            "caxflow": note,
        }
        data.append(entry | {"manifest": state["manifest"]})
        good = state["status"] == "transferred" and not state["mark"] and state["inside"]
        fresh = state["age"] is not None and 0 <= state["age"] <= 3
        expected += name != "midway" and good and fresh and state["manifest"] == "xxh128:" + "a" * 32
    document = {"name": "160315_1432", "detector": "tpc", "data": data}
    from caxflow.documents import Copy

    subject = Copy("raw", SITES["midway"], "transferred", "/data/160315_1432", manifest="xxh128:" + "a" * 32)
    found = evidence.witnesses(document, subject, settings, Demand(wanted), clock)
    assert sum(each.counts for each in found) == expected
    assert evidence.enough(found, Demand(wanted)) == (expected >= wanted)


OLD = {"superseded_after_days": 2}


@pytest.fixture
def versions(copies):
    """A run whose processed file of the version that midway keeps is three days old; that version."""
    copies.add()
    path = copies.folder / "config/config.yaml"
    path.write_text(path.read_text().replace("kind: mini", "kind: mini\n    pax_version: v6.9"))
    version = copies.keep_processed()
    created = now() - datetime.timedelta(days=3)
    copies.add_made("processed", version, creation_time=created)
    return version


def select_old(copies, **purge):
    settings = copies.settings(purge=OLD | purge, kinds=["raw", "processed"])
    return removals.select(copies.database.runs.find(), settings, now()), settings


def test_processed_files_of_older_versions_go_after_a_while(copies, versions):
    assert versions == "v6.9"
    for version in ("v6.8.0", "v6.9.0", "v6.10.0", "v7", "n/a"):
        copies.add_made("processed", version)
    made, settings = select_old(copies)
    assert [(each.stage, each.key.version) for each in made.planned] == [("pax_v6.8.0.purged", "v6.8.0")]
    (line,) = [line for line in removals.summary(made, settings) if line.startswith("remove ")]
    assert line.startswith(
        "remove processed 160315_1432 of v6.8.0 from midway, 23 B; its successor v6.9: midway"
    )
    assert "1 processed file to remove at midway, 23 B" in removals.summary(made, settings)
    made, settings = select_old(copies, superseded_after_days=4)
    assert made.planned == []
    said = list(removals.summary(made, settings))
    assert "1 processed file here stays (160315_1432): its successor of v6.9 is younger than 4 days" in said
    settings = copies.settings(purge={"after_days": 10_000})
    made = removals.select(copies.database.runs.find(), settings, now())
    assert [kind for kind, _ in made.stay] == ["raw"]


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"status": "error"}, "its successor of v6.9 is not there"),
        ({"caxflow": {"suspect": {"files": ["a"]}}}, "its successor of v6.9 is not there"),
        ({"creation_time": None}, "when its successor of v6.9 was made, is not known"),
        ({"manifest": None}, "1 other copy read again within 3 days wanted, 0 found"),
        (
            {"location": "/elsewhere/pax_v6.9/160315_1432.root"},
            "1 other copy read again within 3 days wanted",
        ),
    ],
    ids=["error", "suspect", "no time", "no manifest", "outside"],
)
def test_an_old_version_stays_without_a_good_successor(copies, versions, keys, why):
    copies.add_made("processed", "v6.8.0")
    data = copies.database.runs.find_one()["data"]
    next(each for each in data if each.get("pax_version") == "v6.9").update(keys)
    copies.database.runs.update_one({}, {"$set": {"data": data}})
    made, _ = select_old(copies)
    assert made.planned == []
    assert [reason.startswith(why) for _, reason in made.stay if _ == "processed"] or why in str(
        made.problems
    )


def test_the_ceiling_counts_processed_files(copies, versions):
    copies.add_made("processed", "v6.7")
    copies.add_made("processed", "v6.8")
    both = {"after_days": 30, "processed": False}
    assert len(select_old(copies, **both)[0].planned) == 3
    made, settings = select_old(copies, **both, at_most={"bytes": 50})
    assert [each.stage for each in made.planned] == ["pax_v6.7.purged", "pax_v6.8.purged"]
    assert made.later == {"raw": 1}
    assert "1 more raw copy may go, by the next calls (at_most: 100 copies, 50 B)" in list(
        removals.summary(made, settings)
    )
    made, _ = select_old(copies, **both, at_most={"bytes": 30, "runs": 2})
    assert [each.stage for each in made.planned] == ["pax_v6.7.purged"]


def test_a_removal_of_an_old_version_that_was_begun_is_completed_by_all_too(copies, versions):
    copies.add_made("processed", "v6.8.0")
    subject = copies.subject(kind="processed", version="v6.8.0")
    begun = Removal(subject, Demand(copies=1), "a test")
    copy = subject.find(copies.database.get(subject.run))
    begun.hearing.hear(copy)
    begun.intend(copy)
    decided = decide(copies, kinds=["raw", "processed"]).targets
    assert f"midway/pax_v6.8.0/{subject.run}.purged" in decided
    made, _ = select_old(copies, superseded_after_days=10_000)
    assert [each.words for each in made.planned] == [
        "go on removing processed 160315_1432 of v6.8.0 from midway"
    ]


def test_a_purge_asks_for_documents_with_old_versions_whatever_their_age(copies, versions):
    copies.add_made("processed", "v6.8.0")
    copies.database.runs.update_one({}, {"$set": {"start": now(), "end": now()}})
    assert planned(copies, purge=OLD | {"after_days": 30})[0] == ["midway/pax_v6.8.0/160315_1432.purged"]
    assert planned(copies, purge=OLD)[0] == ["midway/pax_v6.8.0/160315_1432.purged"]
    assert planned(copies, purge={"after_days": 30})[0] == []


def test_a_scrub_reads_processed_files_of_all_versions(copies, versions):
    copies.add_made("processed", "v6.8.0")
    settings = copies.settings(scrub={"every_days": 0}, kinds=["raw", "processed", "minitrees"])
    found = {
        (each.kind, each.version) for each in readings_of.readings(copies.database.runs.find(), settings)
    }
    assert found == {("raw", None), ("processed", "v6.9"), ("processed", "v6.8.0")}


def test_a_preview_of_a_purge_looks_at_what_lies_there(copies, capsys):
    copies.add()
    copies.add("160316_0000")
    copies.add("160317_0000", verified_days_ago=10)
    (copies.path("midway", "160315_1432") / "notes.txt").write_text("the only notes")
    assert planned(copies, preview=True)[0] == [
        "midway/160316_0000.raw.purged",
        "midway/160317_0000.raw.purged",
    ]
    said = capsys.readouterr().err
    assert "160315_1432: its raw copy at midway is not removed: files at " in said
    (copies.path("tegner", "160316_0000") / "a.zip").unlink()
    (copies.path("tegner", "160317_0000") / "a.zip").unlink()
    assert planned(copies, preview=True)[0] == []
    assert "160316_0000: its raw copy at midway is not removed: 2 other copies" in capsys.readouterr().err
