"""What went wrong in cax and admix, and does not here: a test for each row of that list."""

import contextlib
import re
import threading

import pytest
from pymongo import monitoring

import mortal
from caxflow import cli, transfer
from caxflow.config import HOME, Selection, read_yaml
from caxflow.config.retention import Demand
from caxflow.copies import removal, strays
from caxflow.copies.removal import Removal
from caxflow.errors import BadCopy, CaxflowError
from caxflow.files import digests, manifest
from caxflow.files.rootfile import check_root
from caxflow.planning import planner
from caxflow.planning.facts import gather
from caxflow.rundb import Held, Key, RunsDB, select
from caxflow.stages import scrub
from caxflow.targets import Run
from caxflow.transfer import Place
from caxflow.transfer.task import Task, attend
from copies import SITES, Copies

RUN = Run("160315_1432")
HERE = Place("here", "local")


@pytest.fixture
def copies(tmp_path, database, database_uri):
    with Copies(tmp_path, database_uri, database.name) as copies:
        yield copies


class Listener(monitoring.CommandListener):
    """Keeps what is sent to the database, and counts how many documents it answers."""

    def __init__(self):
        self.active, self.sent, self.answered = False, [], 0

    @contextlib.contextmanager
    def listening(self):
        """Listen for a while; pymongo never takes a listener back, so it is deaf at other times."""
        self.sent, self.answered, self.active = [], 0, True
        try:
            yield self.sent
        finally:
            self.active = False

    def started(self, event):
        if self.active:
            self.sent.append(event.command)

    def succeeded(self, event):
        if self.active and event.command_name in ("find", "getMore"):
            cursor = event.reply["cursor"]
            self.answered += len(cursor.get("firstBatch", cursor.get("nextBatch", ())))

    def failed(self, event):
        pass


@pytest.fixture(scope="module")
def listener():
    """Hears what clients send that are made from now on."""
    listener = Listener()
    monitoring.register(listener)
    return listener


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_daemons_claiming_the_same_copy_do_not_both_win(copies):
    copies.add(sites=["lngs"])
    won, key = [], Key("raw", SITES["midway"])
    together = threading.Barrier(8)

    def claim():
        together.wait()
        with contextlib.suppress(Held):
            won.append(copies.database.claim(RUN, key, str(copies.path("midway")), "midway", 30))

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_a_secondary_and_weak_writes_decide_nothing_whatever_the_uri_says(copies, listener):
    """What is sent to the server, from the claim of one copy to the removal of another on stale evidence."""
    copies.add(verified_days_ago=10)
    copies.add("160316_0900", sites=["lngs"])
    weak = f"{copies.uri}/?readPreference=secondaryPreferred&w=1&readConcernLevel=local"
    rundb = {"uri": weak, "database": copies.name, "timeout": 5}
    subject = copies.subject(rundb=rundb)
    with listener.listening() as sent:
        key = Key("raw", SITES["tegner"])
        claim = subject.database.claim(Run("160316_0900"), key, str(copies.path("tegner")), "midway", 30)
        subject.database.tell(claim.run, key, {"status": "error"}, {"token": claim.token})
        Removal(subject, Demand(), "a test").perform()
    assert not copies.path("midway").exists()
    asked = [each for each in sent if "find" in each or "aggregate" in each]
    told = [each for each in sent if "update" in each or "insert" in each]
    assert len(asked) > 5
    assert len(told) > 5
    assert {each["readConcern"]["level"] for each in asked} == {"majority"}
    assert {each.get("$readPreference", {}).get("mode", "primary") for each in asked} == {"primary"}
    assert {each["writeConcern"]["w"] for each in told} == {"majority"}


def test_a_verified_copy_is_read_again_and_rot_is_found(copies):
    copies.add(verified_days_ago=40)
    scrub.read_one(copies.subject("lngs", here="lngs"))
    assert (copies.database.now() - copies.row("lngs")["caxflow"]["verified"]).days == 0
    copies.spoil("midway")
    with pytest.raises(BadCopy, match=r"a\.zip"):
        scrub.read_one(copies.subject())


def test_purge_counts_neither_its_own_copy_nor_rows_without_proof(copies):
    rucio = {"type": "raw", "host": "rucio-catalogue", "status": "transferred", "location": "x1t:raw"}
    document = copies.add(sites=["midway", "tegner"])
    copies.database.runs.update_one({"_id": document["_id"]}, {"$push": {"data": rucio | {"checksum": None}}})
    with pytest.raises(CaxflowError, match="2 other copies read again within 3 days wanted, 1 found"):
        Removal(copies.subject(), Demand(copies=2), "a test").perform()
    assert copies.whole("midway")


@pytest.mark.parametrize("switch", ["dry: true", "-n"])
def test_whoever_may_not_tell_the_database_removes_nothing(copies, capsys, switch):
    copies.add()
    before = files(copies.folder / "midway"), list(copies.database.runs.find())
    profile = copies.profile(dry=switch != "-n")
    words = ["-n"] if switch == "-n" else ["--because", "disk full"]
    cli.main(["rm", "--profile", profile, str(RUN), *words])
    assert (files(copies.folder / "midway"), list(copies.database.runs.find())) == before


def test_two_swapped_zips_do_not_pass(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.zip").write_bytes(name.encode())
    good, cax = manifest.take(str(tmp_path)), digests.cax_sha512(tmp_path)
    (tmp_path / "a.zip").rename(tmp_path / "c")
    (tmp_path / "b.zip").rename(tmp_path / "a.zip")
    (tmp_path / "c").rename(tmp_path / "b.zip")
    assert digests.cax_sha512(tmp_path) == cax
    assert {difference.kind for difference in good.differences(manifest.take(str(tmp_path)))} == {"swapped"}


def test_a_corrupt_prefix_is_not_completed(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.zip").write_bytes(bytes(range(256)) * 50_000)
    part = tmp_path / "raw" / ".run.part-caxflow" / "data"
    part.mkdir(parents=True)
    (part / "a.zip").write_bytes(b"x" * 6_000_000)
    transfer.copy(HERE, str(source), HERE, str(tmp_path / "raw" / "run"))
    assert (tmp_path / "raw/run/a.zip").read_bytes() == (source / "a.zip").read_bytes()


def test_a_file_called_error_log_is_no_error(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "error.log").write_text("ERROR: error in error")
    transfer.copy(HERE, str(tmp_path / "source"), HERE, str(tmp_path / "raw" / "run"))
    assert (tmp_path / "raw/run/error.log").exists()


def test_both_bounds_of_a_range_of_numbers_hold(copies):
    for number in (99, 100, 150, 200, 201):
        copies.database.runs.insert_one({"name": f"160315_0{number}", "detector": "tpc", "number": number})
    found = copies.database.runs.find(select(Selection(first=100, last=200)))
    assert sorted(document["number"] for document in found) == [100, 150, 200]


def test_strays_that_are_named_go_and_the_muon_vetos_run_is_another_one(copies):
    copies.add("160315_1432", number=0)
    copies.add("160315_1432_MV", number=0)
    Removal(copies.subject(run="160315_1432_MV"), Demand(), "a test").perform()
    assert not copies.path("midway", "160315_1432_MV").exists()
    assert copies.whole("midway", "160315_1432")
    settings, stray = copies.settings(), copies.path("midway", "unknown")
    stray.mkdir()
    found = strays.find(copies.database, settings, settings.here)
    assert [each.path for each in found] == [str(stray)]
    strays.remove(copies.database, settings, settings.here, found, [str(stray)])
    assert not stray.exists()


def test_no_site_stands_in_the_code():
    words = set()
    for path in (HOME / "config" / "sites").glob("*.yaml"):
        site = read_yaml(path)
        words |= {site["host"], site.get("work_dir"), *site["roots"].values()}
        words |= {site["access"].get(key) for key in ("host", "user", "ssh_config")}
    words -= {None, "xenon"}
    code = [
        path
        for suffix in ("*.py", "*.smk", "Snakefile")
        for path in (HOME / "workflow").rglob(suffix)
        # These two speak of cax, which has its sites in the code.
        if "demo" not in path.parts and path.name not in ("cax.py", "caxtasks.py")
    ]
    assert len(words) > 10
    assert len(code) > 50
    for path in code:
        # Examples of help texts and docstrings are no code.
        text = re.sub(r'"""(?s:.*?)"""', "", path.read_text(encoding="utf-8"))
        assert not [word for word in words if f'"{word}"' in text], path


class Slow(Task):
    """Something that takes longer than its time-out, and goes on or not meanwhile."""

    def __init__(self, goes_on):
        super().__init__(Place("far", "local", timeout=0.6))
        self.goes_on = goes_on

    def work(self):
        for _ in range(16):
            self.stopped.wait(0.1)
            if self.goes_on:
                self.beat(1)
        return "done"


def test_time_runs_out_only_where_nothing_goes_on():
    assert attend(Slow(goes_on=True)) == "done"
    with pytest.raises(CaxflowError, match="far: no progress"):
        attend(Slow(goes_on=False))


def test_a_product_is_validated_before_anybody_trusts_it(tmp_path):
    import uproot

    path = tmp_path / "160315_1432.root"
    with uproot.recreate(path) as file:
        file.mktree("tree", {"event_number": "int64"})
        file["tree"].extend({"event_number": list(range(20))})
    assert check_root(path, events_built=20) == 20
    with pytest.raises(CaxflowError):
        check_root(path, events_built=30)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CaxflowError):
        check_root(path, events_built=20)


def test_a_copy_is_validated_before_anybody_trusts_it(copies, tmp_path):
    copies.add(sites=["lngs"])
    zygote = mortal.Zygote(tmp_path, "onecall")
    try:
        for stage, spoiled in (("raw.done", False), ("checksum", True)):
            done = zygote.call("perform", f"midway/{RUN}.{stage}", copies.overrides(attempts=1))
            assert done["status"] == spoiled, done["said"]
            # Neither a copy that nobody has read again, nor one that was found bad, is a source for others.
            assert set(gather(copies.database.get(RUN), copies.settings("tegner")).there["raw"]) == {"lngs"}
            if not spoiled:
                assert copies.row("midway")["status"] == "verifying"
                copies.spoil("midway")
    finally:
        zygote.close()
    assert "a.zip has the right size but other contents" in done["said"]
    assert copies.row("midway")["status"] == "error"


@pytest.mark.parametrize("fails", ["rename", "remove_tree"])
def test_a_disk_that_fails_leaves_no_row_without_data(copies, monkeypatch, fails):
    copies.add()

    def broken(*_, **__):
        raise CaxflowError("the disk fails")

    with monkeypatch.context() as patched:
        patched.setattr(removal.transfer, fails, broken)
        with pytest.raises(CaxflowError, match="the disk fails"):
            Removal(copies.subject(), Demand(), "a test").perform()
    copies.check()
    Removal(copies.subject(), Demand(), "a test").perform()
    assert copies.row("midway") is None
    assert not copies.path("midway").exists()
    copies.check()


def test_only_what_is_actionable_is_looked_at(copies, listener):
    for number in range(300):
        copies.add(f"160315_{number // 60:02}{number % 60:02}", sites=[])
    copies.add("170101_0000", sites=["lngs"])
    settings = copies.settings()
    with RunsDB(settings.rundb) as rundb:
        rundb.init_site("midway")
        planner.look(rundb, settings)
        with listener.listening() as sent:
            found = planner.look(rundb, settings)
    assert list(found.facts) == ["170101_0000"]
    assert found.asleep == 300
    assert listener.answered == 1
    assert sum(bool({"find", "getMore", "aggregate"} & each.keys()) for each in sent) <= 8
