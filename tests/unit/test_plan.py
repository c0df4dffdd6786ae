"""What is to be done for a run, decided from its document alone; no document may end the planning."""

import copy
import dataclasses
import datetime
import re

import pytest
import yaml
from bson import Code, Decimal128, Int64
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from caxflow import config
from caxflow.conditions import corrections
from caxflow.config import Selection
from caxflow.errors import CaxflowError
from caxflow.monitoring import consistency
from caxflow.planning import decisions, plan
from caxflow.planning.facts import Facts, describe
from caxflow.planning.plan import Plan
from caxflow.planning.standing import Standings
from caxflow.rundb import marks
from caxflow.rundb.selecting import excluded
from caxflow.simulate.document import run_document
from caxflow.targets import Run

NOW = datetime.datetime(2016, 11, 2, 12)
LATER = NOW + datetime.timedelta(hours=1)
EARLIER = NOW - datetime.timedelta(hours=1)
HOSTS = {"lngs": "xe1t-datamanager", "midway": "midway-login1", "tegner": "tegner-login-1"}
SITES = {
    "lngs": {"origin": True},
    "midway": {"pull_from": ["lngs"], "push_to": ["tegner"], "processed": {"version": "mini_v1"}},
    "tegner": {"pull_from": ["midway", "lngs"], "processed": {"version": "mini_v1", "make": False}},
}
RUN = "161101_1600"
PRODUCT = {"type": "processed", "pax_version": "v0.0.1"}


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """`load(site, **overrides)` gives settings of three sites."""
    folder = tmp_path_factory.mktemp("config")
    (folder / "sites").mkdir()
    main = {"rundb": {"uri": "mongodb://db.example"}, "processors": {"mini_v1": {"kind": "mini"}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(main))
    for name, site in SITES.items():
        roots = {"raw": f"/{name}/raw", "processed": f"/{name}/processed"}
        whole = site | {"host": HOSTS[name], "work_dir": f"/work/{name}", "roots": roots}
        (folder / f"sites/{name}.yaml").write_text(yaml.safe_dump(whole))
    return lambda site="midway", **overrides: config.load({"site": site} | overrides, folder)


def entry(site, status="transferred", note=None, **keys):
    """An entry of `data`; of a processed file if `keys` say so."""
    path = (
        f"/{site}/processed/pax_v0.0.1/{RUN}.root"
        if keys.get("type") == "processed"
        else f"/{site}/raw/{RUN}"
    )
    made = {"type": "raw", "host": HOSTS[site], "status": status, "location": path, "manifest": "xxh128:00"}
    return made | keys | ({} if note is None else {"caxflow": note})


def document(*entries, name=RUN, kind="tpc", **keys):
    made = run_document(name, kind=kind, number=7, events=1000, raw_size_byte=41_234_567_890)
    return made | {"_id": f"id-{name}", "data": list(entries)} | keys


def decide(found, settings):
    return decisions.decide(found, settings, decisions.skip_function(settings), NOW)


def make(found, settings, *, editions=(), twice=(), **keys):
    standings = Standings(settings, NOW, editions=editions, twice=twice)
    return plan.make(found, settings, standings.decide, NOW, **keys)


def wanted(*stages):
    return [f"{site}/{RUN}.{stage}" for site, stage in (text.split("/") for text in stages)]


PROCESSED_HERE = ("midway/processed.root", "midway/processed.checksum")
DONE = (
    entry("lngs"),
    entry("midway"),
    entry("tegner"),
    entry("midway", **PRODUCT),
    entry("tegner", **PRODUCT),
)


def test_a_new_run_is_pulled_processed_and_pushed_on(load):
    decision = decide(document(entry("lngs")), load())
    assert decision.targets == wanted(
        "midway/checksum", *PROCESSED_HERE, "tegner/checksum", "tegner/processed.checksum"
    )
    assert decision.waits == []
    assert decision.facts.source == {
        "raw": {"midway": "lngs", "tegner": "midway"},
        "processed": {"tegner": "midway"},
    }
    assert (decision.facts.size, decision.facts.events) == (41_234_567_890, 1000)


def test_a_run_with_everything_everywhere_is_settled(load):
    for site in SITES:
        assert decide(document(*DONE), load(site)).settled


@pytest.mark.parametrize("lost", range(1, 5))
def test_what_is_lost_is_made_again_and_only_that(load, lost):
    targets = decide(document(*DONE[:lost], *DONE[lost + 1 :]), load()).targets
    assert (
        targets
        == [
            [],
            wanted("midway/checksum"),
            wanted("tegner/checksum"),
            wanted(*PROCESSED_HERE),
            wanted("tegner/processed.checksum"),
        ][lost]
    )


def test_without_verification_the_copy_is_enough(load):
    decision = decide(document(entry("lngs")), load(verify=False))
    assert decision.targets == wanted(
        "midway/raw.done", "midway/processed.root", "tegner/raw.done", "tegner/processed.done"
    )


def test_kinds_limit_what_is_done(load):
    assert decide(document(entry("lngs")), load(kinds=["raw"])).targets == wanted(
        "midway/checksum", "tegner/checksum"
    )
    both = document(entry("lngs"), entry("midway"))
    assert decide(both, load(kinds=["processed"])).targets == wanted(
        *PROCESSED_HERE, "tegner/processed.checksum"
    )


def test_the_origin_takes_the_manifest_of_its_own_run(load):
    fresh = entry("lngs")
    del fresh["manifest"]
    assert decide(document(fresh), load("lngs")).targets == wanted("lngs/raw.done")
    assert decide(document(entry("lngs")), load("lngs")).settled
    building = decide(document(fresh | {"status": "transferring", "creation_time": NOW}), load("lngs"))
    assert building.targets == []
    assert "another program" in building.waits[0]


def test_a_run_being_taken_waits_though_its_raw_data_are_there(load):
    for end in (None, [], ""):
        decision = decide(document(entry("lngs"), end=end), load())
        assert decision.targets == []
        assert decision.waits == ["it is still being taken"]


def test_another_policy_of_versions_makes_another_file(load):
    old = entry("midway", **PRODUCT | {"pax_version": "v6.8.0"})
    assert decide(document(*DONE[:3], old, DONE[4]), load()).targets == wanted(*PROCESSED_HERE)


def test_a_site_that_keeps_copies_pulls_them(load):
    decision = decide(document(*DONE[:4]), load("tegner"))
    assert decision.targets == wanted("tegner/processed.checksum")
    assert decision.facts.source["processed"] == {"tegner": "midway"}


def test_the_preferred_source_comes_first_and_a_bad_one_never(load):
    at_both = document(entry("lngs"), entry("midway"))
    assert decide(at_both, load("tegner", kinds=["raw"])).facts.source["raw"] == {"tegner": "midway"}
    for spoilt in (
        entry("midway", "error"),
        entry("midway", "transferring"),
        entry("midway", note={"suspect": 1}),
    ):
        decision = decide(document(entry("lngs"), spoilt), load("tegner", kinds=["raw"]))
        assert decision.facts.source["raw"] == {"tegner": "lngs"}
    nowhere = decide(document(entry("lngs", "error")), load("tegner", kinds=["raw"]))
    assert nowhere.targets == []
    assert nowhere.waits == ["no site has a raw copy for tegner"]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ({"tags": [{"name": "donotprocess"}]}, "donotprocess"),
        ({"reader": {"ini": {"write_mode": 2}}}, "self_trigger"),
        ({"trigger": {}}, "no events"),
        ({"processor": {}}, "corrections"),
    ],
)
def test_a_run_that_is_not_processed_is_copied_and_says_why(load, spoil, reason):
    decision = decide(document(entry("lngs"), **spoil), load())
    assert decision.targets == wanted("midway/checksum", "tegner/checksum")
    assert any(reason in why for why in decision.waits)
    assert reason in decision.facts.skip


STATES = {
    "cax is at work": (entry("midway", "transferring", creation_time=NOW), False, "another program"),
    "another site holds the claim": (
        entry("midway", "transferring", {"owner": "tegner", "lease": LATER}),
        False,
        "tegner",
    ),
    "its claim has ended": (entry("midway", "transferring", {"owner": "tegner", "lease": EARLIER}), True, ""),
    "we were at it": (entry("midway", "transferring", {"owner": "midway", "lease": LATER}), True, ""),
    "it failed once": (entry("midway", "error", {"attempts": 1, "next": EARLIER}), True, ""),
    "it failed just now": (
        entry("midway", "error", {"attempts": 1, "next": LATER}),
        False,
        "2016-11-02 13:00 UTC",
    ),
    "it failed too often": (
        entry("midway", "error", {"attempts": 5, "error": "disk full"}),
        False,
        "disk full",
    ),
    "cax failed": (entry("midway", "error"), True, ""),
    "odd notes of a failure": (entry("midway", "error", {"attempts": "many", "next": "soon"}), True, ""),
    "we copied it": (entry("midway", "verifying", {"owner": "midway"}), True, ""),
    "another verifies it": (entry("midway", "verifying", {"owner": "tegner"}), False, "being verified"),
}


@pytest.mark.parametrize("case", STATES)
def test_what_the_state_of_a_copy_means(load, case):
    made, tried, reason = STATES[case]
    decision = decide(document(entry("lngs"), made), load(kinds=["raw"]))
    assert (f"midway/{RUN}.checksum" in decision.targets) == tried
    assert tried == (not any("at midway" in why for why in decision.waits))
    assert reason in " ".join(decision.waits)


def test_words_for_a_copy(load):
    midway = load()
    facts = decide(document(entry("lngs")), midway).facts
    assert describe(facts, "raw", "midway", midway) == f"pull {RUN} from lngs, 41.2 GB"
    assert describe(facts, "raw", "tegner", midway) == f"push {RUN} to tegner, 41.2 GB"
    assert describe(facts, "raw", "lngs", midway) == f"take note of {RUN} at lngs, 41.2 GB"
    facts.source["raw"]["tegner"] = "lngs"
    assert describe(facts, "raw", "tegner", midway) == f"relay {RUN} from lngs to tegner, 41.2 GB"
    assert describe(facts, "processed", "tegner", midway) == f"push processed {RUN} to tegner"


def runs(number):
    for index in range(number):
        name = f"16{index // 672 + 1:02d}{index // 24 % 28 + 1:02d}_{index % 24:02d}00"
        yield document(entry("lngs", location=f"/lngs/raw/{name}"), name=name)


@given(order=st.permutations(list(runs(8))), size=st.integers(1, 9))
@effort(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_newest_come_first_and_the_rest_is_counted(load, order, size):
    made = make(order, load(batch_size=size, kinds=["raw"]))
    newest = sorted((found["name"] for found in order), reverse=True)[:size]
    assert list(made.facts) == newest
    assert [target.partition("/")[2][:11] for target in made.targets][::2] == newest
    assert made.more == max(0, 8 - size)


def test_only_the_runs_asked_for_of_the_detector_asked_for(load):
    tpc = document(entry("lngs"))
    veto = document(entry("lngs", location=f"/lngs/raw/{RUN}_MV"), kind="muon_veto")
    for run in (RUN, f"{RUN}_MV"):
        settings = load(runs=[run])
        found = [each for each in (tpc, veto) if excluded(each, settings.selection) is None]
        assert list(make(found, settings).facts) == [run]
    assert set(make([tpc, veto], load()).facts) == {RUN, f"{RUN}_MV"}


def test_settled_runs_are_handed_over_a_thousand_at_a_time(load):
    done = document(*DONE, caxflow={"revision": 3})
    handed = []
    made = make(
        (done | {"_id": index} for index in range(2500)),
        load(),
        settle=lambda some: handed.append(list(some)),
    )
    assert [len(some) for some in handed] == [1000, 1000, 500]
    given = [one for some in handed for one in some]
    assert [one["_id"] for one in given] == list(range(2500))
    assert all(one["caxflow"] == {"revision": 3} and one["mark"] == marks.SETTLED for one in given)
    assert made.targets == []
    assert made.facts == {}


YOUNG = NOW - datetime.timedelta(days=2)
OLD = NOW - datetime.timedelta(days=40)


@pytest.mark.parametrize(
    ("found", "start", "mark"),
    [
        (DONE, OLD, marks.SETTLED),
        (DONE, YOUNG, marks.SETTLED),
        ((entry("lngs"),), OLD, None),  # to be pulled
        ((entry("tegner"),), OLD, marks.WAITS),  # from where midway may not pull
        ((entry("tegner"),), YOUNG, None),
        # Time alone ends these.
        ((entry("lngs"), entry("midway", "error", {"attempts": 1, "next": LATER})), OLD, None),
        ((entry("lngs"), entry("midway", "transferring", {"owner": "cax", "lease": LATER})), OLD, None),
        # A human does.
        ((entry("lngs"), entry("midway", "error", {"attempts": 99})), OLD, marks.WAITS),
    ],
)
def test_what_is_not_looked_at_for_a_while(load, found, start, mark):
    handed = []
    make([document(*found, start=start)], load(kinds=["raw"]), settle=handed.extend)
    assert [one["mark"] for one in handed] == ([mark] if mark else [])
    assert all(one["until"] > NOW for one in handed)


# Surprises.

SURPRISES = {
    "a name that is a path": ({"name": "../../etc"}, "../../etc"),
    "no name": ({"name": None}, "id-"),
    "a name that is a number": ({"name": 1611011600}, "id-"),
    "no detector": ({"detector": None}, "id-"),
    "an unknown detector": ({"detector": "calorimeter"}, "calorimeter"),
    "a raw copy outside the roots": (
        {"data": [entry("lngs", location="/etc/161101_1600")]},
        "/etc/161101_1600",
    ),
    "a raw copy above the roots": (
        {"data": [entry("lngs", location="/lngs/raw/../../etc")]},
        "outside /lngs/raw",
    ),
    "a product outside the roots": (
        {"data": [entry("lngs"), entry("midway", **PRODUCT | {"location": "/tmp/x.root"})]},
        "/tmp/x.root",
    ),
    "a raw copy that is the root": ({"data": [entry("lngs", location="/lngs/raw/")]}, "/lngs/raw/"),
    "a raw copy below another run's": (
        {"data": [entry("lngs", location="/lngs/raw/x\ny")]},
        r"'/lngs/raw/x\ny'",
    ),
    "two entries for one copy": (
        {"data": [entry("lngs"), entry("midway"), entry("midway", "error")]},
        "2 entries",
    ),
    "an entry without a location": (
        {"data": [entry("lngs"), {"type": "raw", "host": HOSTS["midway"], "status": "transferred"}]},
        "no status or location",
    ),
}


@pytest.mark.parametrize("case", SURPRISES)
def test_a_surprise_is_a_message_and_the_others_go_on(load, case):
    spoil, expected = SURPRISES[case]
    before, after = list(runs(2))
    made = make([before, document(entry("lngs")) | spoil, after], load())
    assert set(made.facts) == {before["name"], after["name"]}
    (problem,) = made.problems
    assert expected in problem
    assert "id-" in problem or RUN in problem or spoil.get("name", "?") in problem
    assert " -> " in problem
    assert "\n" not in problem


def test_a_damaged_only_copy_is_a_problem_for_a_human(load):
    suspect = entry("lngs", "error", {"suspect": {"token": "t"}, "error": "a.zip differs"})
    made = make([document(suspect)], load("lngs"))
    assert made.problems == [
        f"{RUN}: THE ONLY COPY IS DAMAGED: a.zip differs -> look for another copy, and ask who made it"
    ]


def test_two_documents_for_one_run_are_told_and_neither_is_acted_on(load):
    first, second = document(entry("lngs")), document(entry("lngs")) | {"_id": "id-other"}
    (other,) = runs(1)
    made = make([first, other, second], load(), twice={Run(RUN)})
    assert list(made.facts) == [other["name"]]
    assert RUN in made.problems[0]
    assert not any(RUN in target for target in made.targets)


def test_a_document_that_is_found_twice_is_planned_once(load):
    # It may move from one of the queries' ranges to another while they run.
    found = document(entry("lngs"))
    made = make([found, copy.deepcopy(found)], load())
    assert made.problems == []
    assert made.targets == decide(found, load()).targets


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats()
    | st.text(max_size=6)
    | st.just(NOW)
    | st.binary(max_size=3)
    | st.just(Code("raw"))
    | st.sampled_from(["tpc", "transferred", "raw", "../..", HOSTS["midway"], "\n", "8", "2016-11-01"])
    | st.sampled_from([Decimal128(text) for text in ("8", "8.5", "NaN", "sNaN", "-Infinity", "1E+6000")]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


def places(value, path=()):
    """Every place in a nested value."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if path[-1:] != ("gains",):
            yield from places(inner, (*path, key))


def reaches(value, key):
    """Whether a value, perhaps spoilt already, has that key or index."""
    if isinstance(value, list):
        return isinstance(key, int) and key < len(value)
    return isinstance(value, dict) and key in value


WHOLE = document(
    *DONE[:1],
    entry(
        "midway",
        "error",
        {"owner": "midway", "lease": LATER, "attempts": 2, "next": EARLIER, "by": {"pid": 1}},
    ),
    entry("tegner", "transferring", {"owner": "tegner", "lease": LATER}),
    entry("midway", note={"correction_versions": {"AddGains": "5.0"}}, **PRODUCT),
    *DONE[4:],
    tags=[{"name": "x", "user": "y", "date": NOW}],
    caxflow={
        "revision": 3,
        "settled": {"lngs": "p"},
        "gone": [{"type": "raw", "host": HOSTS["lngs"], "at": NOW}],
    },
)


@pytest.mark.parametrize("path", [path for path in places(WHOLE) if path[-1] != "gains"], ids=str)
def test_code_in_the_place_of_a_text_keeps_no_other_run_back(load, path):
    """bson's Code is a text for Python, without a hash: no key of a dictionary, and in no set."""
    odd = copy.deepcopy(WHOLE)
    at = odd
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = Code("raw")
    (good,) = runs(1)
    made = make([odd, good], load())
    assert good["name"] in made.facts
    list(consistency.surprises(odd, load(), NOW))
    excluded(odd, Selection(tags=("raw",), sources=("raw",)))


@given(changes=st.lists(st.tuples(st.sampled_from(list(places(WHOLE))), JUNK), min_size=1, max_size=3))
@effort(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_document_ends_the_planning(load, tmp_path, changes):
    spoilt = copy.deepcopy(WHOLE)
    for path, junk in changes:
        at = spoilt
        for key in path[:-1]:
            at = at[key] if reaches(at, key) else None
        if isinstance(at, dict) or reaches(at, path[-1]):
            at[path[-1]] = junk
    (good,) = runs(1)
    for site in SITES:
        settled = []
        made = make([spoilt, good], load(site), settle=settled.extend)
        assert good["name"] in made.facts or site == "lngs"
        assert not any("\n" in line for line in (*made.problems, *made.targets))
        known = len(made.problems) + len(made.facts) + len(made.waiting) + len(settled)
        assert known >= 2
        made.write(tmp_path)


# The plan file and the policy.


def test_what_is_frozen_is_what_is_read(load, tmp_path):
    made = make([document(entry("lngs")), *runs(2)], load())
    made.write(tmp_path)
    assert Plan.read(tmp_path).facts == made.facts
    assert Plan.read(tmp_path).main == made.main


ODD_KEYS = {
    "events_built": ("trigger", "events_built"),
    "number": ("number",),
    "size": ("raw_size_byte",),
    "events_per_file": ("reader", "ini", "trigger_config_override", "Zip", "events_per_file"),
}
EIGHT = [8, 8.0, Int64(8), Decimal128("8"), "8", " 8 ", "8.0"]


@pytest.mark.parametrize("found", EIGHT, ids=repr)
@pytest.mark.parametrize("keys", ODD_KEYS.values(), ids=ODD_KEYS)
def test_facts_have_whole_numbers_however_the_document_writes_them(load, tmp_path, keys, found):
    plain, odd = document(entry("lngs")), document(entry("lngs"))
    for each, number in ((plain, 8), (odd, found)):
        at = each
        for key in keys[:-1]:
            at = at.setdefault(key, {})
        at[keys[-1]] = number
    made = make([odd], load())
    assert made.facts == make([plain], load()).facts
    made.write(tmp_path)
    assert Plan.read(tmp_path).facts == made.facts


@pytest.mark.parametrize("found", [7, 7.0, Int64(7), Decimal128("7"), Decimal128("7.0")], ids=repr)
def test_versions_of_corrections_are_equal_however_they_are_written(load, tmp_path, found):
    """Else all that was processed is made anew when the mongo shell has saved a document."""
    reprocess = load(corrections={"apply": [], "reprocess": True})
    for of_file, of_run in ((found, 7), (7, found)):
        processed = entry("midway", note={"correction_versions": {"AddGains": of_file}}, **PRODUCT)
        run = document(*DONE[:3], processed, DONE[4])
        run["processor"]["correction_versions"] = {"AddGains": of_run}
        assert decide(run, reprocess).settled
        make([run, document(entry("lngs"), processed)], load("tegner")).write(tmp_path)


def test_a_file_that_does_not_say_how_it_was_made_is_not_made_anew(load):
    reprocess = load(corrections={"apply": [], "reprocess": True})
    for odd in ({"AddGains": [7]}, {"AddGains": None}, {"AddGains": Decimal128("NaN")}, 7, "7.0", []):
        processed = entry("midway", note={"correction_versions": odd}, **PRODUCT)
        assert decide(document(*DONE[:3], processed, DONE[4]), reprocess).settled


@pytest.mark.parametrize("attempts", [5, 5.0, Decimal128("5"), "5"], ids=repr)
def test_attempts_are_counted_however_they_are_written(load, attempts):
    failed = document(entry("lngs"), entry("midway", "error", {"attempts": attempts, "error": "no space"}))
    assert decide(failed, load(kinds=["raw"])).targets == []


ODD_FOR_PROCESSING = {
    "tags": "bad",
    "trigger": {"events_built": "many"},
    "processor": {"DEFAULT": {"gains": [1e6]}, "correction_versions": ["5.0"]},
}


@pytest.mark.parametrize("key", ODD_FOR_PROCESSING)
def test_what_cannot_be_read_keeps_a_run_from_being_processed_and_not_from_being_copied(load, key):
    odd = document(entry("lngs"), **{key: ODD_FOR_PROCESSING[key]})
    decision = decide(odd, load())
    assert decision.targets == wanted("midway/checksum", "tegner/checksum")
    (said,) = [text for text in decision.waits if text.startswith("not processed: ")]
    assert re.match(rf"not processed: {key}\S* (is|does) .* -> ", said)
    # What is there stays as it is.
    assert decide(document(*DONE, **{key: ODD_FOR_PROCESSING[key]}), load()).settled


def test_an_end_that_cannot_be_read_is_named(load):
    made = make([document(entry("lngs"), end="soon")], load())
    assert made.problems == [f"{RUN}: end is 'soon', not a time -> correct the run document"]
    for end in (str(NOW), [NOW], 1478080800.0):
        assert decide(document(entry("lngs"), end=end), load()).targets


@pytest.mark.parametrize(
    "text", [None, "", "{}", "[]", '{"here": "x", "main": {}, "runs": {"a": {"odd": 1}}}']
)
def test_a_plan_that_cannot_be_read_says_what_to_do(tmp_path, text):
    if text is not None:
        (tmp_path / ".caxflow").mkdir()
        (tmp_path / plan.FILE).write_text(text)
    with pytest.raises(CaxflowError, match="start the workflow again"):
        Plan.read(tmp_path)


NEWER = {"processors": {"mini_v1": {"kind": "mini", "pax_version": "v9.0"}}}
DECISIVE = [
    {"kinds": ["raw"]},
    {"verify": False},
    {"site": "tegner"},
    {"site": "lngs"},
    {"attempts": 9},
    {"masters": ["midway"]},
    NEWER,
]
INDIFFERENT = [{"batch_size": 3}, {"pause": 9}, {"lease": 5}, {"dry": True}, {"select": {"tags": ["x"]}}]


def test_what_makes_a_run_settled_is_in_the_policy(load):
    policies = {plan.policy(load())} | {plan.policy(load(**change)) for change in DECISIVE}
    assert len(policies) == 1 + len(DECISIVE)
    for change in INDIFFERENT:
        assert plan.policy(load(**change)) == plan.policy(load())


def test_more_attempts_in_the_configuration_are_made(load):
    """What failed too often waits for a human, who may raise `attempts`: then `all` looks again at once."""
    failed = document(entry("lngs"), entry("midway", "error", {"attempts": 5, "error": "no space"}))
    mark = marks.text(plan.policy(load(kinds=["raw"])), marks.WAITS, NOW)
    marked = failed | {"caxflow": {"settled": {"midway": mark}}}
    for attempts in (5, 6):
        settings = load(kinds=["raw"], attempts=attempts)
        spared = marks.spared(marked, "midway", plan.policy(settings), NOW - datetime.timedelta(hours=1))
        assert (spared is None) == bool(decide(failed, settings).targets) == (attempts == 6)


def test_facts_begin_empty_and_apart():
    one, other = Facts("a"), Facts("b")
    one.source["raw"]["midway"] = "lngs"
    one.there["raw"]["lngs"] = {}
    assert other.source == {"raw": {}, "processed": {}}
    assert other.there == {"raw": {}, "processed": {}}


OLD, NEW = ({"AddGains": version} for version in ("6.0", "7.0"))


def made_anew(with_=NEW, tegner="transferred", **note):
    """Midway's processed file was made anew since tegner got its copy."""
    here = entry("midway", manifest="xxh128:11", note={"correction_versions": with_}, **PRODUCT)
    there = entry("tegner", tegner, note={"correction_versions": OLD} | note, **PRODUCT)
    found = document(*DONE[:3], here, there)
    found["processor"]["correction_versions"] = dict(with_)
    return found


@pytest.mark.parametrize("site", ["midway", "tegner"])
def test_a_kept_copy_of_what_was_made_anew_is_replaced(load, site):
    decision = decide(made_anew(), load(site))
    assert decision.targets == wanted("tegner/processed.checksum")
    assert decision.facts.renew == {"tegner": "xxh128:00"}
    assert decision.facts.source["processed"] == {"tegner": "midway"}
    assert "tegner" not in decision.facts.there["processed"]
    # The same corrections make the same file, whatever its bytes: nothing is moved for that.
    assert decide(made_anew(with_=OLD), load(site)).settled


def test_a_copy_that_could_not_be_replaced_waits_like_any_other(load):
    failed = made_anew(tegner="error", attempts=2, error="no space", next=LATER)
    decision = decide(failed, load())
    assert decision.targets == []
    assert decision.waits == ["its processed copy at tegner is tried again at 2016-11-02 13:00 UTC"]
    assert decide(failed, load(lease=30)).passing
    again = decide(made_anew(tegner="error", attempts=2, error="no space", next=EARLIER), load())
    killed = decide(made_anew(tegner="transferring", owner="midway", lease=LATER), load())
    for each in (again, killed):
        assert each.targets == wanted("tegner/processed.checksum")
        assert each.facts.renew == {"tegner": "xxh128:00"}
    # One that is read again just now is left alone meanwhile.
    assert decide(made_anew(tegner="verifying", owner="tegner"), load()).passing is False
    assert decide(made_anew(tegner="verifying", owner="tegner"), load()).targets == []


def with_newer_corrections(**note):
    processed = entry("midway", note={"correction_versions": OLD} | note, **PRODUCT)
    found = document(*DONE[:3], processed, DONE[4])
    found["processor"]["correction_versions"] = dict(NEW)
    return found


def test_what_could_not_be_made_anew_waits_out_its_pause_and_stays_a_source(load):
    reprocess = load(corrections={"apply": [], "reprocess": True})
    assert decide(with_newer_corrections(), reprocess).facts.anew
    decision = decide(with_newer_corrections(attempts=1, error="no memory", next=LATER), reprocess)
    assert decision.targets == []
    assert decision.waits == [
        "making processed data at midway anew is tried again at 2016-11-02 13:00 UTC, "
        "the last time: no memory"
    ]
    assert not decision.facts.anew
    assert "midway" in decision.facts.there["processed"]
    given_up = decide(with_newer_corrections(attempts=5, error="no memory"), reprocess)
    assert given_up.waits == ["making processed data at midway anew failed 5 times, the last time: no memory"]


def test_a_run_that_is_not_processed_any_more_keeps_its_file(load):
    reprocess = load(corrections={"apply": [], "reprocess": True})
    tagged = with_newer_corrections() | {"tags": [{"name": "donotprocess"}]}
    decision = decide(tagged, reprocess)
    assert decision.targets == []
    assert not decision.facts.anew


class Late:
    """Slow control that knows the voltage of some runs; it remembers for which it was asked."""

    def __init__(self, *known):
        self.known, self.asked = known, []

    def __call__(self, name, number, start, end):
        self.asked.append(name)
        return 12.0 if name in self.known else None


def test_a_run_that_waits_for_slow_control_takes_no_place_of_the_batch(load):
    correction = next(each for each in corrections.CORRECTIONS if each.name == "AddDriftVelocity")
    editions = [corrections.read_edition(correction, {"version": "1.1", "function": "1.4 + 0.001*v"})]
    names = [f"16110{day}_1600" for day in range(1, 7)]
    found = [document(entry("midway", location=f"/midway/raw/{name}"), name=name) for name in names]
    for each in found:
        del each["processor"]["DEFAULT"]["drift_velocity_liquid"]
    voltage = Late(*names[:4])
    only = load(kinds=["processed"], batch_size=2)
    made = make(
        found,
        only,
        editions=editions,
        waiting=lambda each: corrections.waiting(each, editions, voltage),
    )
    # The two newest wait, the next two are taken instead.
    assert sorted(made.facts) == names[2:4]
    assert made.more == 2
    assert sorted(made.waiting) == names[4:]
    reason = made.waiting[names[5]]
    assert "waiting for the corrections of drift_velocity_liquid" in reason
    assert "AddDriftVelocity 1.1: waiting for slow control" in reason
    # Nothing of the document will change when the voltage comes: it is looked at each time.
    assert decisions.decide(
        found[5],
        only,
        decisions.skip_function(only),
        NOW,
        editions=editions,
        lacks=corrections.waiting(found[5], editions, voltage),
    ).passing
    # Newest first, slow control is asked for those only that have a place.
    voltage.asked.clear()
    make(
        found[::-1],
        only,
        editions=editions,
        waiting=lambda each: corrections.waiting(each, editions, voltage),
    )
    assert voltage.asked == [*names[:1:-1]]


# What the event builder and cax leave behind (R1, R2).

AGO = datetime.timedelta(days=400)
BEGUN = {
    "never said": {},
    "no time": {"creation_time": "in March"},
    "a list": {"creation_time": [NOW - AGO]},
    "years ago": {"creation_time": NOW - 3 * AGO},
    "in the far future": {"creation_time": NOW + 3 * AGO},
}
LATELY = {"creation_time": NOW - datetime.timedelta(hours=2)}


def foreign(site, status, **keys):
    """An entry as other programs write it."""
    made = entry(site, status, checksum=None, **keys)
    del made["manifest"]
    return made


@pytest.mark.parametrize("begun", [*BEGUN.values(), LATELY], ids=[*BEGUN, "lately"])
def test_r1_what_the_event_builder_has_finished_is_registered_and_goes_on(load, begun):
    built = document(foreign("lngs", "verifying", **begun))
    assert decide(built, load("lngs")).targets == wanted("lngs/raw.done")
    elsewhere = decide(built, load("midway", kinds=["raw"]))
    assert elsewhere.targets == []
    assert "no site has a raw copy for midway; `all` at lngs has yet to take note" in elsewhere.waits[0]


def test_r1_in_the_same_call_it_is_pushed_on(load):
    settings = load("lngs")
    pushing = dataclasses.replace(settings.here, push_to=("tegner",))
    settings = dataclasses.replace(settings, here=pushing, sites=settings.sites | {"lngs": pushing})
    made = decide(document(foreign("lngs", "verifying", **LATELY)), settings)
    assert made.targets == wanted("lngs/raw.done", "tegner/checksum")


def test_r1_what_it_is_still_building_waits(load):
    building = decide(document(foreign("lngs", "transferring", **LATELY)), load("lngs"))
    assert (building.targets, building.passing) == ([], True)
    # It says how many events there are when it is done.
    left = foreign("lngs", "transferring", creation_time=NOW - AGO)
    made = decide(document(left, trigger={"status": "staging"}), load("lngs"))
    assert (made.targets, made.waits) == ([], ["its raw copy at lngs is said to be transferring"])


@pytest.mark.parametrize("begun", BEGUN.values(), ids=BEGUN)
@pytest.mark.parametrize("status", ["transferring", "verifying", "error"])
def test_r2_what_cax_left_is_taken_over_at_every_site(load, status, begun):
    left = foreign("midway", status, **begun)
    here = decide(document(entry("lngs"), left), load(kinds=["raw"]))
    assert here.targets == wanted("midway/checksum", "tegner/checksum")
    assert here.facts.source["raw"]["midway"] == "lngs"
    # Where it is brought to from here, too.
    at_tegner = foreign("tegner", status, **begun)
    pushed = decide(document(entry("lngs"), entry("midway"), at_tegner), load(kinds=["raw"]))
    assert pushed.targets == wanted("tegner/checksum")
    # At the origin its own files are looked at.
    origin = decide(document(foreign("lngs", status, **begun)), load("lngs"))
    assert origin.targets == wanted("lngs/raw.done")


@pytest.mark.parametrize("status", ["transferring", "verifying"])
def test_r2_the_only_copy_that_cax_left_is_taken_note_of_by_what_it_holds(load, status):
    only = document(foreign("midway", status, creation_time=NOW - AGO))
    assert decide(only, load(kinds=["raw"])).targets == wanted("midway/raw.done", "tegner/checksum")
    young = decide(document(foreign("midway", status, **LATELY)), load(kinds=["raw"]))
    assert (young.targets, young.passing) == ([], True)


@pytest.mark.parametrize("begun", BEGUN.values(), ids=BEGUN)
@pytest.mark.parametrize("status", ["transferring", "verifying", "error"])
def test_r2_processed_files_that_cax_left_are_made_anew(load, status, begun):
    left = foreign("midway", status, **PRODUCT, **begun)
    made = decide(document(*DONE[:3], left), load())
    assert [target for target in made.targets if target.startswith("midway/")] == wanted(*PROCESSED_HERE)
    assert made.facts.abandoned
    young = foreign("midway", "verifying", **PRODUCT, **LATELY)
    waits = decide(document(*DONE[:3], young), load())
    assert "its processed copy at midway is being verified" in waits.waits
    assert (waits.targets, waits.passing) == ([], True)


@pytest.mark.parametrize("location", ["n/a", "NA", f"/elsewhere/{RUN}"])
def test_r2_an_odd_place_of_what_promises_nothing_keeps_no_other_copy_back(load, location):
    """As cax writes of what it fetches from tape, until it has come."""
    odd = foreign("lngs", "error", location=location)
    made = decide(document(odd, entry("midway")), load(kinds=["raw"]))
    assert made.targets == wanted("tegner/checksum")
    alone = decide(document(odd), load("lngs"))
    assert alone.targets == []
    assert location in alone.wrong[0]


def test_r2_rows_of_hosts_that_are_no_sites_are_nobodys(load):
    others = [
        {"type": kind, "host": host, "status": status, "location": "n/a"} | begun
        for kind in ("raw", "processed", "untriggered")
        for host in ("tsm-server", "rucio-catalogue", "reader")
        for status in ("transferring", "verifying", "error", "RSEreupload")
        for begun in BEGUN.values()
    ]
    assert decide(document(*DONE, *others), load()).settled


def test_r2_a_status_that_nobody_knows_is_said(load):
    odd = foreign("midway", "failed", creation_time=NOW - AGO)
    made = decide(document(entry("lngs"), odd), load(kinds=["raw"]))
    assert "its raw copy at midway has the unknown status 'failed'" in made.waits
    assert "midway" not in made.facts.source["raw"]
