"""Names of runs, sites and targets: there and back, and nothing else gets through."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caxflow import targets
from caxflow.errors import CaxflowError
from caxflow.targets import Run, Target

DIGITS = st.text("0123456789", min_size=10, max_size=10)
RUNS = st.builds(
    lambda digits, detector: Run(f"{digits[:6]}_{digits[6:]}", detector),
    DIGITS,
    st.sampled_from(["tpc", "muon_veto"]),
)
SITES = st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True)
VERSIONED = st.builds(
    lambda version, stage: f"pax_v{version}.{stage}",
    st.from_regex(r"[0-9]{1,2}(\.[0-9]{1,2}){0,2}", fullmatch=True),
    st.sampled_from(targets.VERSION_STAGES),
)
STAGES = st.sampled_from(targets.STAGES) | VERSIONED
HOSTILE = [
    "",
    "160315_1432\n",
    "\n160315_1432",
    "160315_1432_mv",
    "160315_1432_MV_MV",
    "160315-1432",
    "1603151432",
    "../../etc/passwd",
    "160315_1432/..",
    "160315_1432;reboot",
    "160315_1432\0",
    # Digits, but not ours.
    "\u0661\u0666\u0660\u0663\u0661\u0665_\u0661\u0664\u0663\u0662",
]


@given(RUNS)
def test_a_run_reads_its_own_name(run):
    assert Run.parse(str(run)) == run
    assert str(run).endswith("_MV") == (run.detector == "muon_veto")


@given(SITES, RUNS, STAGES)
def test_a_target_is_read_back(site, run, stage):
    text = targets.path(site, run, stage)
    assert targets.parse(text) == Target(site, run, stage)
    assert str(targets.parse(text)) == text
    if not stage.startswith("pax_"):
        assert text == f"{site}/{run}.{stage}"


@given(st.tuples(SITES, RUNS, STAGES), st.tuples(SITES, RUNS, STAGES))
def test_two_facts_never_share_a_file(one, other):
    assert (targets.path(*one) == targets.path(*other)) == (one == other)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_no_run_is_refused(text):
    with pytest.raises(CaxflowError, match="160315_1432"):
        Run.parse(text)
    with pytest.raises(CaxflowError):
        targets.parse(f"midway/{text}.raw.done")


@pytest.mark.parametrize("text", [text for text in HOSTILE if not text.endswith("_MV")])
def test_a_run_cannot_be_made_of_what_is_no_name(text):
    with pytest.raises(CaxflowError):
        Run(text)


def test_an_unknown_detector_is_refused():
    with pytest.raises(CaxflowError, match="muon_veto"):
        Run("160315_1432", "mv")


@given(st.text(max_size=40))
def test_whatever_is_parsed_is_of_the_vocabulary(text):
    try:
        target = targets.parse(text)
    except CaxflowError:
        return
    assert str(target) == text


@pytest.mark.parametrize("site", ["", "Midway", "mid way", "../midway", "9site", "midway\n", "a" * 33])
def test_what_is_no_site_is_refused(site):
    with pytest.raises(CaxflowError, match="site"):
        targets.path(site, Run("160315_1432"), "raw.done")
    with pytest.raises(CaxflowError):
        targets.parse(f"{site}/160315_1432.raw.done")


def test_what_is_no_stage_is_refused():
    with pytest.raises(CaxflowError, match=re.escape("raw.done")):
        targets.path("midway", Run("160315_1432"), "raw.dune")
    with pytest.raises(CaxflowError):
        targets.parse("midway/160315_1432.rawxdone")
    for folder in ("pax_v6.8.0/..", "pax_v", "pax_6.8.0", "pax_v6.8.0\n", "pax_v6/8", "v6.8.0"):
        with pytest.raises(CaxflowError):
            targets.parse(f"midway/{folder}/160315_1432.done")


def test_the_wildcards_of_the_workflow_admit_what_the_library_admits():
    for text in ("160315_1432", "160315_1432_MV"):
        assert re.fullmatch(targets.RUN, text)
    for text in HOSTILE:
        assert not re.fullmatch(targets.RUN, text)
