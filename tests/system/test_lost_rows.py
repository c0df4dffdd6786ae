"""Rows that the database has lost come back after a look at the files; receipts go with their copies."""

import shutil

import pytest

import mortal
from copies import SITES, Copies

RUN = "160315_1432"


@pytest.fixture
def copies(tmp_path, database, database_uri):
    with Copies(tmp_path, database_uri, database.name) as copies:
        copies.add(RUN, sites=["lngs"])
        yield copies


@pytest.fixture
def perform(tmp_path, copies):
    zygote = mortal.Zygote(tmp_path, "onecall")

    def perform(function, *words):
        done = zygote.call(function, *words)
        assert done["status"] in (0, 1), done["said"]
        return done["out"] + done["said"]

    yield perform
    zygote.close()


def pull(copies, site):
    """Take a row out of the document by hand."""
    change = {"$pull": {"data": {"host": SITES[site]}}, "$unset": {"caxflow.settled": ""}}
    copies.database.runs.update_one({}, change)


def other_size(path):
    (path / "a.zip").write_bytes(b"short")


def foreign_file(path):
    (path / "core.1").touch()


def missing_file(path):
    (path / "a.zip").unlink()


def a_link(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize("site", ["midway", "tegner"])
def test_y2_a_row_that_was_lost_bears_no_witness_until_its_copy_is_read(copies, perform, site):
    """A row pulled by hand; `all`; `scrub`."""
    overrides = copies.overrides()
    perform("perform", "all", overrides)
    verified = copies.row(site)["caxflow"]["verified"]
    pull(copies, site)
    perform("perform", "all", overrides)
    row = copies.row(site)
    assert (row["status"], row["location"]) == ("transferred", str(copies.path(site)))
    assert "verified" not in row["caxflow"]
    # Whatever is told again later: what was read before the loss is no evidence.
    for words in (["rundb", "rebuild", "--apply"], ["rundb", "check"]):
        perform("command", [*words, "--profile", copies.profile()])
    perform("perform", "all", overrides)
    assert "verified" not in copies.row(site)["caxflow"]
    if site == "midway":
        perform("perform", "scrub", copies.overrides(scrub={"every_days": 0}))
        assert copies.row(site)["caxflow"]["verified"] > verified


@pytest.mark.parametrize("change", [shutil.rmtree, other_size, foreign_file, missing_file, a_link])
@pytest.mark.parametrize("restored", ["pulled", "rebuild"])
def test_y2_what_is_not_there_any_more_gets_no_row(copies, perform, change, restored):
    """A row pulled by hand, and the copy removed or changed since; `all` or `rundb rebuild --apply`."""
    overrides = copies.overrides()
    perform("perform", "all", overrides)
    copies.add("160316_1432", sites=["lngs", "midway"])  # so that the folder is not one that is not mounted
    pull(copies, "midway")
    change(copies.path("midway"))
    if restored == "rebuild":
        said = perform("command", ["rundb", "rebuild", "--apply", "--profile", copies.profile()])
    else:
        said = perform("perform", "all", overrides)
    assert f"{RUN}: its raw copy at midway" in said
    assert "Traceback" not in said
    row = copies.row("midway")
    assert row is None or row["status"] != "transferred" or copies.whole("midway")
    if change is shutil.rmtree:
        # Its receipts are void: it is copied anew.
        perform("perform", "all", overrides)
        perform("perform", "all", overrides)
        assert copies.whole("midway")
        assert copies.row("midway")["status"] == "transferred"


def test_y2_an_older_backup_of_the_document(copies, perform):
    """The database restored to before the copies were made; they are rotten since."""
    overrides = copies.overrides()
    backup = copies.database.runs.find_one()
    perform("perform", "all", overrides)
    copies.database.runs.replace_one({"_id": backup["_id"]}, backup)
    copies.spoil("midway")
    perform("perform", "all", overrides)
    for site in ("midway", "tegner"):
        assert "verified" not in copies.row(site)["caxflow"]


AWAY = {
    "purged there": lambda copies, perform: perform(
        "perform",
        "purge",
        copies.overrides("tegner", purge={"after_days": 1, "copies": 1, "processed": False}),
    ),
    "rm there": lambda copies, perform: perform(
        "command", ["rm", RUN, "--because", "full", "--copies", "1", "--profile", copies.profile("tegner")]
    ),
    "moved there": lambda copies, perform: perform(
        "command",
        [
            "mv",
            RUN,
            "--to",
            str(copies.path("tegner", f"other/{RUN}")),
            "--profile",
            copies.profile("tegner"),
        ],
    ),
}


@pytest.mark.parametrize("way", AWAY)
def test_y5_receipts_about_a_copy_elsewhere_go_with_it(copies, perform, way):
    """purge, rm or mv at tegner; `all` at midway, with nothing to do; `why` at midway."""
    overrides = copies.overrides()
    perform("perform", "all", overrides)
    receipts = [copies.work("midway", f"tegner/{RUN}.{stage}") for stage in ("raw.done", "checksum")]
    assert all(path.exists() for path in receipts)
    AWAY[way](copies, perform)
    row = copies.row("tegner")
    assert row is None or row["location"] != str(copies.path("tegner"))
    perform("perform", "all", overrides)
    assert not any(path.exists() for path in receipts)
    said = perform("command", ["why", RUN, "--profile", copies.profile()])
    assert "receipts for tegner" not in said


def test_y10_a_reading_is_as_old_as_its_beginning(copies, perform, monkeypatch):
    """A scrub that takes long: `verified` is not later than the moment at which it began to read."""
    from caxflow.stages import scrub

    perform("perform", "all", copies.overrides())
    subject, seen, real = copies.subject(), [], scrub.take_manifests

    def slow(*arguments, **more):
        seen.append(subject.database.now())
        return real(*arguments, **more)

    monkeypatch.setattr(scrub, "take_manifests", slow)
    scrub.read_one(subject)
    assert copies.row("midway")["caxflow"]["verified"] <= seen[0]
