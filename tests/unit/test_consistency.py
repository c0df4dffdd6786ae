"""Documents with surprises, and entries that do not say what receipts prove."""

import datetime
import io

import pytest
from bson import Decimal128

from caxflow import documents, receipts
from caxflow.conditions import settings
from caxflow.errors import CaxflowError
from caxflow.monitoring import consistency, why
from caxflow.simulate import run_document
from caxflow.stages.job import Job
from caxflow.switching.caxtasks import Cax
from caxflow.targets import Run, Target
from operators import HOSTS, MANIFEST, NOW, RUN, configured, document, raw, state

BEFORE = NOW - datetime.timedelta(hours=1)


def good(folder, site="midway", **keys):
    """The entry that the receipts of `state` prove."""
    note = {"verified": NOW}
    return raw(folder, site, manifest=MANIFEST.digest, size=MANIFEST.size, caxflow=note) | keys


NUMBERS = (8.0, Decimal128("8"), "8", " 8.0 "), (8.5, "many", True, Decimal128("NaN"), -8, [8], {})
TIMES = (str(NOW), [NOW], NOW.timestamp()), ("soon", 8, True, [], datetime.datetime(9999, 12, 31))
RATES = ("1.44e-4", Decimal128("1E-4")), ("fast", [1e-4], float("inf"), False)
READ = {
    "number": NUMBERS,
    "trigger.events_built": NUMBERS,
    "raw_size_byte": NUMBERS,
    "reader.ini.write_mode": NUMBERS,
    "reader.ini.trigger_config_override.Zip.events_per_file": NUMBERS,
    "reader.self_trigger": (("true", 1, 0.0), ("yes", 2, [True])),
    "start": TIMES,
    "end": TIMES,
    "processor.DEFAULT.drift_velocity_liquid": RATES,
    "processor.DEFAULT.electron_lifetime_liquid": RATES,
    "data.size": NUMBERS,
    "data.creation_time": TIMES,
    "data.caxflow.attempts": NUMBERS,
    "data.caxflow.verified": TIMES,
    "data.caxflow.lease": TIMES,
}


@pytest.mark.parametrize("key", READ)
def test_what_cannot_be_read_is_named_with_its_key_and_value(tmp_path, key):
    settings = configured(tmp_path)
    for odd in (False, True):
        for value in READ[key][odd]:
            known = document(tmp_path, good(tmp_path))
            at, (*above, last) = known, key.split(".")
            for name in above:
                at = at["data"][-1] if name == "data" else at.setdefault(name, {})
            at[last] = value
            found = list(consistency.surprises(known, settings, NOW))
            said = f"{key.removeprefix('data.')} is {value!r}, not "
            assert len(found) == odd, (value, found)
            if odd:
                assert found[0].startswith(f"{RUN}: ")
                assert said in found[0]
                assert found[0].endswith(" -> correct it in the run document")
                assert "midway-login1" in found[0] or not key.startswith("data.")
                assert why.answer(RUN, known, settings, None, now=NOW).odd == found


def test_a_document_as_it_should_be(tmp_path):
    settings = configured(tmp_path)
    known = document(
        tmp_path, good(tmp_path), {"type": "untriggered", "host": "reader", "status": "x", "location": "y"}
    )
    assert list(consistency.surprises(known, settings, NOW)) == []


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ({"location": "/etc/passwd"}, "outside"),
        ({"location": "{root}/../../../etc"}, "outside"),
        ({"status": "on its way"}, "unknown status 'on its way'"),
        ({"host": None}, "lack type, host, status or location"),
        ({"status": "transferring"}, "transferring, nothing says since when, left by another program"),
        ({"status": "verifying", "creation_time": None}, "verifying, nothing says since when, left by"),
        (
            {"status": "verifying", "creation_time": [BEFORE - documents.STALLED]},
            "`all` at midway takes it over",
        ),
        (
            {"status": "verifying", "host": HOSTS["tegner"], "location": "{folder}/tegner/raw/160315_1432"},
            "-> `all` at midway takes it over",
        ),
        (
            {"status": "verifying", "type": "processed", "pax_version": "v0.0.1"}
            | {"location": "{folder}/midway/processed/pax_v0.0.1/160315_1432.root"},
            "-> `all` at midway takes it over",
        ),
        (
            {"status": "verifying", "type": "processed", "pax_version": "v6.8.0"}
            | {"location": "{folder}/midway/processed/pax_v6.8.0/160315_1432.root"},
            "no `all` makes that version there: remove the entry",
        ),
        (
            {"status": "transferring", "caxflow": {"lease": BEFORE, "owner": "tegner"}},
            "claim of tegner ended at",
        ),
        ({"caxflow": {"suspect": "a.zip differs"}}, "suspect: a.zip differs"),
        ({"caxflow": {"suspect": {"token": "ab"}, "error": "it differs"}}, "is suspect: it differs -> "),
        ({"type": "processed", "location": "{folder}/midway/processed/160315_1432.root"}, "no pax_version"),
    ],
)
def test_odd_entries(tmp_path, entry, word):
    settings = configured(tmp_path)
    root = settings.here.roots["raw"]
    filled = {
        key: value.format(root=root, folder=tmp_path) if isinstance(value, str) else value
        for key, value in entry.items()
    }
    (found,) = consistency.surprises(document(tmp_path, raw(tmp_path, "midway") | filled), settings, NOW)
    assert word in found
    assert str(RUN) in found
    assert " -> " in found


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"name": "../../etc"}, "'../../etc'"),
        ({"detector": None}, "detector None"),
        ({"data": {"type": "raw"}}, "no list of entries"),
        ({"caxflow": [1]}, "its key caxflow is no mapping"),
    ],
)
def test_odd_documents(tmp_path, change, word):
    (found,) = consistency.surprises(document(tmp_path) | change, configured(tmp_path), NOW)
    assert word in found


def test_two_entries_for_the_same_copy(tmp_path):
    known = document(tmp_path, raw(tmp_path, "midway"), raw(tmp_path, "midway", "error"))
    (found,) = consistency.surprises(known, configured(tmp_path), NOW)
    assert found == f"{RUN}: 2 entries for its raw copy at midway-login1 -> remove the wrong one"


@pytest.fixture
def proven(tmp_path):
    """What receipts here state: midway's raw copy was read again."""
    work = tmp_path / "work/midway"
    done = state(work, tmp_path, "midway")
    state(work, tmp_path, "midway", "checksum")
    return consistency.read(work, done)


def test_an_entry_that_says_what_is_proven(tmp_path, proven):
    assert proven.targets == [Target("midway", RUN, "raw.done"), Target("midway", RUN, "checksum")]
    assert consistency.contradictions(document(tmp_path, good(tmp_path)), proven) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"manifest": "xxh128:" + "1" * 32}, "the entry xxh128:1111"),
        ({"manifest": None}, "the entry None"),
        ({"location": "/elsewhere"}, "the entry /elsewhere"),
        ({"size": None}, "no size"),
        ({"status": "error"}, "the entry says error"),
        ({"caxflow": {}}, "does not say when"),
    ],
)
def test_an_entry_that_contradicts(tmp_path, proven, change, word):
    (found,) = consistency.contradictions(document(tmp_path, good(tmp_path) | change), proven)
    assert word in found


def test_an_entry_that_is_lost(tmp_path, proven):
    assert consistency.contradictions(document(tmp_path), proven) == [
        f"{RUN}: its raw copy at {HOSTS['midway']} has a receipt, and no entry"
    ]


def test_a_copy_that_has_gone_since_is_no_contradiction(tmp_path, proven):
    later = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) + datetime.timedelta(minutes=1)
    gone = [{"type": "raw", "host": HOSTS["midway"], "at": later, "why": "removed"}]
    assert consistency.contradictions(document(tmp_path, caxflow={"gone": gone}), proven) == []


def test_receipts_are_found_by_run_the_newest_first(tmp_path):
    settings = configured(tmp_path)
    work = tmp_path / "work/midway"
    newer = Run("170101_0000")
    for run in (RUN, newer):
        state(work, tmp_path, "midway", run=run)
    state(work, tmp_path, "lngs")
    (work / "midway/nonsense.raw.done").touch()
    found = list(consistency.stated(work, settings.sites))
    assert found == [
        (newer, [Target("midway", newer, "raw.done")]),
        (RUN, [Target("lngs", RUN, "raw.done"), Target("midway", RUN, "raw.done")]),
    ]


def test_a_receipt_whose_manifest_was_altered_is_named(tmp_path):
    settings, work = configured(tmp_path), tmp_path / "work/midway"
    done = state(work, tmp_path, "midway")
    content = receipts.read(work / str(done))
    content["manifest"]["files"][0][2] = "f" * 32
    receipts.write(work / str(done), content)
    words = rf"receipt \S+{done} is damaged: manifest does not have the digest .* -> remove it; the fact is"
    with pytest.raises(CaxflowError, match=words):
        consistency.read(work, done)
    job = Job(settings, "checksum", settings.here, RUN, work / "x", io.StringIO(), work_dir=work)
    with pytest.raises(CaxflowError, match=words):
        job.receipt(settings.here, "raw.done")


def test_a_lost_document_is_made_of_what_is_kept(tmp_path):
    work = tmp_path / "work/midway"
    state(work, tmp_path, "midway")
    made = consistency.document_from(RUN, work, ["lngs", "midway"], NOW)
    assert made == {
        "name": "160315_1432",
        "detector": "tpc",
        "number": 1432,
        "start": datetime.datetime(2016, 3, 15, 14, 32),
        "data": [],
        "caxflow": {"rebuilt": NOW},
    }


@pytest.mark.parametrize("kind", ["tpc", "led", "muon_veto"])
def test_r3_cax_ends_nowhere_at_a_document_that_was_made_again(tmp_path, kind):
    work = tmp_path / "work/midway"
    known = run_document("160315_1432", kind=kind, number=1432, events=30, events_per_file=10)
    run = documents.run_of(known)
    frozen = settings.freeze(known, processor="mini_v1", pax_version="v0.0.1", now=receipts.now())
    receipts.write(work / f"midway/{run}.settings.json", frozen)
    made = consistency.document_from(run, work, ["midway"], NOW)
    host = {"name": HOSTS["midway"], "method": "rsync", "data_type": ["raw", "processed"], "purge": 5}
    host |= {"dir_processed": "/p", "dir_minitrees": "/m", "download_options": [], "upload_options": []}
    row = {
        "type": "raw",
        "host": HOSTS["midway"],
        "status": "transferred",
        "location": "/r",
        "checksum": None,
    }
    done = Cax([host], host["name"], "v0.0.1").one_pass(made | {"data": [row]}, NOW)
    assert done.death is None
    assert settings.freeze(made, processor="mini_v1", pax_version="v0.0.1")["kind"] == kind
