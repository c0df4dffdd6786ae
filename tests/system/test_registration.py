"""Raw data are registered if they are whole and nothing else; what is refused waits until it changes."""

import datetime
import os
import shutil
import zipfile

import pytest

from caxflow.files import digests
from caxflow.simulate import run_document, simulate_run
from caxflow.targets import Run, Target
from caxflow.workdir import journal
from copies import SITES, Copies

RUN = "160315_1432"
FIRST, SECOND = (f"XENON1T-1432-{first:09d}-{first + 1:09d}-000000002.zip" for first in (0, 2))
ORIGINS_OWN = "that is damage of the origin, and of no other copy: have the run built again"


@pytest.fixture
def copies(tmp_path, database, database_uri):
    with Copies(tmp_path, database_uri, database.name) as copies:
        born(copies)
        yield copies


def born(copies, run=RUN, kind="tpc", events=4, **keys):
    """Simulate a run at lngs, as the event builder leaves it."""
    shape = {
        "kind": kind,
        "number": 0 if kind == "muon_veto" else 1432,
        "events": events,
        "events_per_file": 2,
    }
    name = Run.parse(run).name
    simulate_run(copies.path("lngs", run), name, seed=1, **shape)
    made = run_document(name, locations={SITES["lngs"]: str(copies.path("lngs", run))}, **shape)
    copies.database.runs.insert_one(made | keys)


@pytest.fixture
def perform(copies, zygote):
    """`perform(target, site)` makes a call; what it said."""

    def perform(target="all", site="lngs", **overrides):
        done = zygote.call("perform", target, copies.overrides(site, **overrides))
        assert done["status"] in (0, 1), done["said"]
        return done["out"] + done["said"]

    return perform


def attempts(copies, run=RUN, site="lngs"):
    """How often lngs' data were tried from a site, and failed."""
    failure = journal.failure(copies.work(site), Target("lngs", Run.parse(run), "raw.done"))
    return failure["times"] if failure else 0


def nothing_is_copied(copies, perform):
    perform("all", "midway")
    assert not copies.path("midway").exists()
    assert copies.row("midway") is None


def rewrite(path, names, **options):
    """Write a zip anew, with its first member's content under other names."""
    with zipfile.ZipFile(path) as archive:
        content = archive.read(archive.namelist()[0])
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name in names:
            archive.writestr(name, content)


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def flipped_byte(data):
    flip(data / SECOND, 100)


def flipped_byte_of_a_side_file(data):
    flip(data / "trigger_monitor_data.zip", 80)


def other_events(data):
    rewrite(data / SECOND, ["2", "99"])


def a_folder_in_a_zip(data):
    rewrite(data / SECOND, ["2", "3", "more/"])


def old_and_new_name(data):
    shutil.copy(data / FIRST, data / FIRST.replace("-000000002.zip", ".zip"))


def lost_zip(data):
    (data / SECOND).unlink()


def empty_zip(data):
    (data / SECOND).write_bytes(b"")


def encrypted(data):
    path = data / SECOND
    flip(path, path.read_bytes().index(b"PK\1\2") + 8)


def no_side_file(data):
    (data / "pax_info.json").unlink()


def crashed(data):
    shutil.copy(data / SECOND, data / "temp.zip")


def nothing_at_all(data):
    for path in data.iterdir():
        path.unlink()


DAMAGE = {
    flipped_byte: f"{SECOND} member 2 does not have its checksum (CRC)",
    flipped_byte_of_a_side_file: "trigger_monitor_data.zip member 'count_of_lone_pulses=000000000000' ",
    other_events: f"{SECOND} lacks event 3; {SECOND} holds event 99, which is none of its own",
    a_folder_in_a_zip: f"{SECOND} member 'more/' would be a path",
    old_and_new_name: f"{FIRST} repeats events 0 to 1, which {FIRST.replace('-000000002.zip', '.zip')} has",
    lost_zip: "the zips have 2 events, the trigger built 4",
    empty_zip: f"{SECOND} is empty",
    encrypted: f"{SECOND} member 2 is encrypted",
    no_side_file: "pax_info.json is missing",
    crashed: "temp.zip is there, which the event builder writes into, though the run ended on 2016-03-15",
    nothing_at_all: "there are no files in it, though the run ended on 2016-03-15",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damage_of_the_origin_is_named_and_final_until_it_is_gone(copies, perform, damage):
    data = copies.path("lngs")
    shutil.copytree(data, data.with_name("whole"))
    damage(data)
    for _ in range(2):
        said = perform()
        assert f"{RUN} at lngs is not complete: " in said
        assert DAMAGE[damage] in said
        assert ORIGINS_OWN in said
        assert "manifest" not in said
        row = copies.row("lngs")
        assert row["status"] == "error"
        assert not row.get("manifest")
        assert attempts(copies) == 1
    nothing_is_copied(copies, perform)
    shutil.rmtree(data)
    data.with_name("whole").rename(data)
    perform()
    row = copies.row("lngs")
    assert row["status"] == "transferred"
    assert row["manifest"].startswith("xxh128:")
    assert attempts(copies) == 0


def core(data):
    (data / "core.12345").write_bytes(b"core")


def hidden(data):
    (data / ".DS_Store").write_bytes(b"mac")


def folder(data):
    (data / "old").mkdir()


def comment(data):
    with zipfile.ZipFile(data / FIRST, "a") as archive:
        archive.comment = b"by hand"


def compressed(data):
    with zipfile.ZipFile(data / FIRST) as archive:
        events = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(data / FIRST, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, event in events.items():
            archive.writestr(name, event)


def spare_bytes(data):
    (data / FIRST).write_bytes(b"spare" + (data / FIRST).read_bytes())


FOREIGN = {
    core: "core.12345 is no file of a raw dataset",
    hidden: ".DS_Store is no file of a raw dataset",
    folder: "old is a folder",
    comment: f"{FIRST} has a comment of 7 bytes",
    compressed: f"{FIRST} has compressed members, as 0",
    spare_bytes: f"{FIRST} has 5 bytes before its first member",
}


@pytest.mark.parametrize("oddity", FOREIGN, ids=lambda oddity: oddity.__name__)
def test_what_is_foreign_is_refused_or_registered_with_a_remark(copies, perform, oddity):
    data = copies.path("lngs")
    oddity(data)
    for _ in range(2):
        said = perform()
        assert f"{RUN} at lngs has what is not part of raw data: {FOREIGN[oddity]} ->" in said
        assert "foreign_files: register" in said
        assert copies.row("lngs")["status"] == "transferred"
        assert not copies.row("lngs").get("manifest")
        assert attempts(copies) == 1
    nothing_is_copied(copies, perform)
    said = perform(foreign_files="register")
    row = copies.row("lngs")
    assert row["manifest"].startswith("xxh128:"), said
    assert FOREIGN[oddity] in copies.work("lngs", f"lngs/{RUN}.raw.done").read_text().replace("\\\\", "\\")
    perform("all", "midway")
    assert {path.name for path in copies.path("midway").iterdir()} == {path.name for path in data.iterdir()}


def test_what_was_removed_while_it_was_open_is_named_and_not_copied(copies, perform):
    left = copies.path("lngs") / ".nfs0001"
    left.write_bytes(b"still open")
    perform()
    assert ".nfs0001 is left out" in copies.work("lngs", f"lngs/{RUN}.raw.done").read_text()
    perform("all", "midway")
    assert copies.row("midway")["status"] == "transferred"
    assert not (copies.path("midway") / left.name).exists()
    left.unlink()
    said = perform("scrub")
    assert copies.row("lngs")["status"] == "transferred", said


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({"trigger": {}}, "the run document does not say how many events were built"),
        ({"trigger": {"events_built": 3}}, "the zips have 4 events, by the run document the trigger built 3"),
        ({"number": 7}, "its zips belong to run number 1432, the run document says 7"),
    ],
)
def test_an_odd_document_is_no_evidence_and_its_correction_is_seen(copies, perform, facts, problem):
    before = copies.database.runs.find_one()
    copies.database.runs.update_one({}, {"$set": facts})
    for _ in range(2):
        said = perform()
        assert f"{RUN} at lngs cannot be judged: {problem} -> correct the run document" in said
        assert copies.row("lngs")["status"] == "transferred"
        assert attempts(copies) == 1
    copies.database.runs.update_one({}, {"$set": {key: before[key] for key in facts}})
    perform()
    assert copies.row("lngs")["manifest"].startswith("xxh128:")


def test_a_run_that_ended_lately_is_still_being_built(copies, perform):
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    crashed(copies.path("lngs"))
    copies.database.runs.update_one({}, {"$set": {"end": now - datetime.timedelta(days=29)}})
    said = perform()
    assert f"{RUN} at lngs is still being built: temp.zip is there" in said
    assert copies.row("lngs")["status"] == "transferred"
    copies.database.runs.update_one({}, {"$set": {"end": now - datetime.timedelta(days=31)}})
    assert "temp.zip is there, which the event builder writes into, though" in perform()
    assert copies.row("lngs")["status"] == "error"


def test_what_is_still_being_built_is_waited_for_however_often_it_was_looked_at(copies, perform):
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    data = copies.path("lngs")
    crashed(data)
    copies.database.runs.update_one({}, {"$set": {"end": now - datetime.timedelta(days=29)}})
    building = f"{RUN} at lngs is still being built: temp.zip is there"
    assert building in perform(attempts=1)
    # Nothing of it has changed.
    said = perform(attempts=1)
    assert f"{RUN} waits: {building}" in said
    assert attempts(copies) == 1
    with (data / "temp.zip").open("ab") as file:
        file.write(b"more")
    assert building in perform(attempts=1)
    assert attempts(copies) == 2
    # Time goes by.
    copies.database.runs.update_one({}, {"$set": {"end": now - datetime.timedelta(days=31)}})
    assert "temp.zip is there, which the event builder writes into, though" in perform(attempts=1)
    assert copies.row("lngs")["status"] == "error"
    (data / "temp.zip").unlink()
    perform(attempts=1)
    assert copies.row("lngs")["manifest"].startswith("xxh128:")


def test_what_is_refused_is_looked_at_however_often_it_changes(copies, perform):
    data = copies.path("lngs")
    info = (data / "pax_info.json").read_bytes()
    no_side_file(data)
    for number in (1, 2, 3):
        (data / "eventbuilder.log").write_text(str(number))
        assert DAMAGE[no_side_file] in perform(attempts=2)
        assert attempts(copies) == number
    (data / "pax_info.json").write_bytes(info)
    perform(attempts=2)
    assert copies.row("lngs")["manifest"].startswith("xxh128:")


@pytest.mark.parametrize(("spoil", "passes"), [(core, True), (flipped_byte, False)])
def test_a_refusal_at_another_site_names_the_target_to_type(copies, perform, spoil, passes):
    """Where cax stays at the origin, its data are not looked at in each call from elsewhere."""
    data = copies.path("lngs")
    spoil(data)
    said = perform("all", "midway")
    assert f"; then ask for lngs/{RUN}.raw.done" in said
    assert "it is looked at again" not in said
    if passes:
        (data / "core.12345").unlink()
    else:
        flipped_byte(data)
    perform(f"lngs/{RUN}.raw.done", "midway")
    assert copies.row("lngs")["manifest"].startswith("xxh128:")


def links(data):
    (data / "link").symlink_to("eventbuilder.log")


def pipe(data):
    os.mkfifo(data / "pipe")


@pytest.mark.parametrize(("make", "kind"), [(links, "a symbolic link"), (pipe, "a named pipe")])
def test_what_is_no_file_is_named(copies, perform, make, kind):
    make(copies.path("lngs"))
    said = perform()
    assert f"is {kind} -> a dataset holds only regular files and directories" in said
    assert copies.row("lngs")["status"] == "transferred"
    nothing_is_copied(copies, perform)


def test_a_scrub_registers_nothing_past_all_questions(copies, perform):
    core(copies.path("lngs"))
    perform("scrub")
    assert not copies.row("lngs").get("manifest")
    perform()
    assert attempts(copies) == 1


@pytest.mark.parametrize("inside", ["", "further"])
def test_a_folder_that_was_taken_away_is_a_change(copies, perform, inside):
    foreign = copies.path("lngs") / "old" / inside
    foreign.mkdir(parents=True)
    perform()
    perform()
    assert attempts(copies) == 1
    shutil.rmtree(copies.path("lngs") / "old")
    perform()
    assert copies.row("lngs")["manifest"].startswith("xxh128:")


def test_a_target_that_is_typed_is_tried_though_nothing_changed(copies, perform):
    flipped_byte(copies.path("lngs"))
    perform()
    assert attempts(copies) == 1
    perform(f"lngs/{RUN}.raw.done")
    assert attempts(copies) == 2


def test_why_says_that_it_waits_for_a_change(copies, perform, zygote):
    flipped_byte(copies.path("lngs"))
    perform()
    done = zygote.call("command", ["why", RUN, "--profile", copies.profile("lngs")])
    assert done["status"] == 1
    said = done["out"]
    assert DAMAGE[flipped_byte] in said
    assert "it is looked at again once its files change" in said
    assert "next attempt" not in said
    assert "waits for a human" not in said
    assert "`all` looks at it again once its files, or its run document, change" in said


def test_what_is_still_being_built_has_not_failed(copies, perform, zygote):
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    crashed(copies.path("lngs"))
    copies.database.runs.update_one({}, {"$set": {"end": now - datetime.timedelta(days=29)}})
    perform()
    said = zygote.call("command", ["why", RUN, "--profile", copies.profile("lngs")])["out"]
    assert f"{RUN}: it waits" in said
    assert "still being built" in said
    assert "failed" not in said
    assert "waits for a human" not in said
    assert "failed" not in zygote.call("command", ["status", "--profile", copies.profile("lngs")])["out"]


def test_caxs_checksum_is_compared_in_the_same_pass(copies, perform):
    data = copies.path("lngs")
    copies.set("lngs", checksum=digests.cax_sha512(data))
    perform()
    row = copies.row("lngs")
    assert row["manifest"].startswith("xxh128:")
    assert row["checksum"] == digests.cax_sha512(data)


def test_what_cax_did_not_record_is_damage_and_final(copies, perform):
    copies.set("lngs", checksum="0" * 128)
    for _ in range(2):
        assert "does not have the sha512 that cax recorded" in perform()
        assert copies.row("lngs")["status"] == "error"
        assert attempts(copies) == 1


def test_a_muon_veto_run_is_whole_with_three_side_files(copies, perform):
    run = f"{RUN}_MV"
    born(copies, run, kind="muon_veto")
    assert not (copies.path("lngs", run) / "acquisition_monitor_data.pickles").exists()
    perform()
    document = copies.database.get(Run.parse(run))
    assert document["data"][0]["manifest"].startswith("xxh128:")
