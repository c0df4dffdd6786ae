"""The journal: what is pending and what failed outlives whatever crashes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nasty
from caxflow import receipts, targets
from caxflow.targets import Run, Target
from caxflow.workdir import journal

RUN = Run("160315_1432")
DONE = Target("midway", RUN, "raw.done")
PROOF = Target("midway", Run("160315_1432", "muon_veto"), "processed.checksum")


def test_what_is_announced_is_pending_until_settled(tmp_path):
    assert list(journal.pending(tmp_path)) == []
    journal.announce(tmp_path, DONE)
    journal.announce(tmp_path, PROOF)
    journal.announce(tmp_path, DONE)
    assert set(journal.pending(tmp_path)) == {DONE, PROOF}
    journal.settle(tmp_path, DONE)
    journal.settle(tmp_path, DONE)
    assert list(journal.pending(tmp_path)) == [PROOF]


@given(
    st.sets(
        st.builds(
            Target,
            st.from_regex(targets.SITE, fullmatch=True),
            st.sampled_from([RUN, Run("999999_9999", "muon_veto")]),
            st.sampled_from([*targets.STAGES, "pax_v6.8.0.done", "pax_v6.8.0.root"]),
        ),
        max_size=5,
    )
)
def test_every_target_has_a_mark_of_its_own(tmp_path_factory, wanted):
    work_dir = tmp_path_factory.mktemp("work")
    for target in wanted:
        journal.announce(work_dir, target)
    assert set(journal.pending(work_dir)) == wanted


def test_files_of_others_are_passed_over(tmp_path):
    journal.announce(tmp_path, DONE)
    for name in ("README", ".swp", "midway.160315_1432.raw.dune", "Midway.160315_1432.raw.done"):
        (tmp_path / ".caxflow/pending" / name).touch()
    assert list(journal.pending(tmp_path)) == [DONE]


def test_failures_are_counted_kept_and_told(tmp_path):
    journal.fail(tmp_path, DONE, "disk full")
    content = journal.fail(tmp_path, DONE, "host away", entry={"kind": "raw"}, token="abc")
    assert content["attempts"] == 2
    kept = journal.failure(tmp_path, DONE)
    assert (kept["reason"], kept["attempts"], kept["token"]) == ("host away", 2, "abc")
    assert kept["entry"] == {"kind": "raw"}
    assert list(journal.pending(tmp_path)) == [DONE]
    assert journal.failure(tmp_path, PROOF) is None


def test_a_success_forgets_the_failures(tmp_path):
    journal.fail(tmp_path, DONE, "disk full")
    journal.succeed(tmp_path, DONE)
    journal.succeed(tmp_path, DONE)
    assert journal.failure(tmp_path, DONE) is None
    assert journal.fail(tmp_path, DONE, "again")["attempts"] == 1


def test_a_damaged_failure_does_not_hide_the_next_one(tmp_path):
    journal.fail(tmp_path, DONE, "first")
    (path,) = (tmp_path / ".caxflow/failures").iterdir()
    path.write_text("{")
    assert journal.fail(tmp_path, DONE, "second")["reason"] == "second"


NOW = {"processed.root", "processed.done", "processed.checksum"}
OLD = {"pax_v1.root", "pax_v1.done"}
OTHERS = {"minitrees.done"}


@pytest.mark.parametrize(
    ("kind", "version", "gone"),
    [
        ("processed", "v2", NOW),
        ("processed", "v1", OLD),
        ("processed", "v3", set()),
        ("minitrees", "v1", set()),
        ("minitrees", "v2", OTHERS),
        ("raw", None, {"raw.done"}),
    ],
)
def test_what_is_forgotten_of_a_copy_is_its_own(tmp_path, kind, version, gone):
    every = {"raw.done"} | NOW | OLD | OTHERS
    for stage in every:
        target = Target("midway", RUN, stage)
        receipts.write(tmp_path / str(target), {"entry": {"version": "v1" if stage in OLD else "v2"}})
        journal.announce(tmp_path, target)
    journal.forget(tmp_path, "midway", RUN, kind, version)
    assert {target.stage for target in journal.pending(tmp_path)} == every - gone
    there = {stage for stage in every if (tmp_path / targets.path("midway", RUN, stage)).exists()}
    assert there == every - gone


def test_a_damaged_receipt_of_a_copy_that_is_gone_goes(tmp_path):
    path = tmp_path / targets.path("midway", RUN, "processed.done")
    receipts.write(path, "{")
    journal.forget(tmp_path, "midway", RUN, "processed", "v1")
    assert not path.exists()


def test_a_receipt_that_names_no_version_is_not_of_the_one_that_goes(tmp_path):
    path = tmp_path / targets.path("midway", RUN, "processed.done")
    receipts.write(path, {"location": "/processed/pax_v2"})
    journal.forget(tmp_path, "midway", RUN, "processed", "v1")
    assert path.exists()


def test_what_is_kept_of_a_failure_is_short_and_printable(tmp_path):
    for reason in (f"\x1b[31m{'x' * 8_000_000}", "x" * 8_000_000):
        journal.fail(tmp_path, DONE, reason)
        (file,) = (tmp_path / ".caxflow/failures").iterdir()
        assert file.stat().st_size < 5000
        assert nasty.effects(journal.failure(tmp_path, DONE)["reason"]) == []
    # By an earlier version.
    kept = json.loads(file.read_text()) | {"reason": "\x1b[31m" + "x" * 8_000_000}
    file.write_text(json.dumps(kept))
    assert nasty.effects(journal.failure(tmp_path, DONE)["reason"]) == []
