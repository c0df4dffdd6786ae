"""A copy that is not what it must be: suspect, set aside, told, and made anew; the only one is kept."""

import datetime
import shutil

import pytest

import mortal
import needs
from caxflow.config.retention import Demand
from caxflow.copies import evidence, quarantine, strays
from caxflow.copies.removal import TRASH, Removal
from caxflow.errors import BadCopy, CaxflowError
from caxflow.files import manifest
from caxflow.planning import decisions
from caxflow.planning.facts import gather
from caxflow.planning.readings import Reading
from caxflow.stages import scrub
from caxflow.targets import Run
from copies import SITES, Copies, Killed, just_read, now

RUN = Run("160315_1432")


@pytest.fixture
def copies(tmp_path, database, database_uri):
    with Copies(tmp_path, database_uri, database.name) as copies:
        yield copies


def aside(copies, site):
    folder = copies.folder / site / "raw" / quarantine.FOLDER
    return list(folder.iterdir()) if folder.exists() else []


def decide(copies, here, **overrides):
    here = copies.settings(here, **overrides)
    return decisions.decide(copies.database.get(RUN), here, lambda _: None, now())


@pytest.fixture(scope="module")
def perform(tmp_path_factory):
    """What becomes of a call of midway's workflow for a target."""
    zygote = mortal.Zygote(tmp_path_factory.mktemp("zygote"), "onecall")
    yield lambda copies, target: zygote.call("perform", target, copies.overrides())
    zygote.close()


def test_a_bad_copy_is_told_with_its_files_and_moved_aside(copies):
    copies.add()
    copies.spoil("midway")
    with pytest.raises(BadCopy, match=r"a\.zip has the right size but other contents .* copies it anew"):
        scrub.read_one(copies.subject())
    (moved,) = aside(copies, "midway")
    assert (moved / "a.zip").exists()
    assert not copies.path("midway").exists()
    row = copies.row("midway")
    assert row["status"] == "error"
    assert row["caxflow"]["suspect"]["files"] == ["a.zip has the right size but other contents"]
    assert row["caxflow"]["suspect"]["quarantine"] == str(moved)
    (record,) = copies.database.audit(RUN)
    assert (record["action"], record["site"]) == ("suspect", "midway")
    copies.check()


def test_a_suspect_copy_is_no_source_and_is_copied_anew(copies):
    copies.add()
    copies.spoil("midway")
    with pytest.raises(BadCopy):
        scrub.read_one(copies.subject())
    decision = decide(copies, "midway")
    assert set(decision.facts.there["raw"]) == {"lngs", "tegner"}
    assert decision.targets == [f"midway/{RUN}.checksum"]
    assert decision.facts.source["raw"] == {"midway": "lngs"}


def test_the_origin_is_mended_from_wherever_the_copy_is_good(copies):
    copies.add()
    copies.spoil("lngs")
    with pytest.raises(BadCopy):
        scrub.read_one(copies.subject("lngs", here="lngs"))
    decision = decide(copies, "lngs")
    assert decision.targets == [f"lngs/{RUN}.checksum"]
    assert decision.facts.source["raw"]["lngs"] in ("midway", "tegner")


def test_the_only_copy_is_kept_and_shouted_about(copies):
    copies.add(sites=["lngs"])
    copies.spoil("lngs")
    with pytest.raises(BadCopy, match="THE ONLY COPY IS DAMAGED"):
        scrub.read_one(copies.subject("lngs", here="lngs"))
    assert copies.path("lngs").exists()
    assert aside(copies, "lngs") == []
    assert copies.row("lngs")["caxflow"]["suspect"]["quarantine"] is None
    decision = decide(copies, "lngs")
    assert decision.targets == []
    assert any("THE ONLY COPY IS DAMAGED" in line for line in decision.waits)


def test_receipts_about_a_bad_copy_go(copies):
    copies.add()
    copies.spoil("midway")
    for stage in ("raw.done", "checksum"):
        receipt = copies.work("midway", f"midway/{RUN}.{stage}")
        receipt.parent.mkdir(exist_ok=True)
        receipt.touch()
    with pytest.raises(BadCopy):
        scrub.read_one(copies.subject())
    assert list(copies.work("midway", "midway").iterdir()) == []


def test_what_a_crash_left_in_place_makes_room_for_the_new_copy(copies, monkeypatch):
    copies.add()
    copies.spoil("midway")

    class Crash(BaseException):
        pass

    def crash(*_, **__):
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(quarantine.transfer, "rename", crash)
        with pytest.raises(Crash):
            scrub.read_one(copies.subject())
    assert copies.path("midway").exists()
    assert copies.row("midway")["status"] == "error"
    moved = quarantine.make_room(copies.subject())
    assert [str(path) for path in aside(copies, "midway")] == [moved]
    assert not copies.path("midway").exists()
    assert quarantine.make_room(copies.subject()) is None


def test_a_copy_unlike_the_masters_is_no_source_and_the_scrub_finds_its_files(copies):
    copies.add()
    copies.spoil("tegner")
    copies.set(
        "tegner", **{key: copies.entry("tegner", str(RUN), 0.5)[key] for key in ("manifest", "checksum")}
    )
    facts = gather(copies.database.get(RUN), copies.settings())
    assert set(facts.there["raw"]) == {"lngs", "midway"}
    assert any("is not like the others" in line for line in decide(copies, "midway").waits)
    with pytest.raises(BadCopy, match=r"a\.zip"):
        scrub.read_one(copies.subject("tegner", here="tegner"))
    assert len(aside(copies, "tegner")) == 1


def test_who_is_master_can_be_said(copies):
    copies.add()
    copies.spoil("tegner")
    copies.set("tegner", manifest=copies.entry("tegner", str(RUN), 0.5)["manifest"])
    document = copies.database.get(RUN)
    assert evidence.master(document, "raw", copies.settings()).host == SITES["lngs"]
    settings = copies.settings(masters=["tegner"])
    assert settings.masters == ("tegner", "lngs", "midway")
    assert evidence.master(document, "raw", settings).host == SITES["tegner"]
    assert set(gather(document, settings).there["raw"]) == {"tegner"}
    with pytest.raises(CaxflowError, match="masters: there is no site 'nowhere'"):
        copies.settings(masters=["nowhere"])


def test_a_copy_that_only_cax_knew_is_checked_with_its_checksum(copies):
    from caxflow.files import digests

    copies.add(sites=["lngs"])
    checksum = digests.cax_sha512(copies.path("lngs"))
    copies.set("lngs", manifest=None, checksum=checksum)
    scrub.read_one(copies.subject("lngs", here="lngs"))
    row = copies.row("lngs")
    assert row["checksum"] == checksum
    assert row["manifest"].startswith("xxh128:")
    assert "verified" in row["caxflow"]

    copies.set("lngs", manifest=None, status="transferred")
    copies.spoil("lngs")
    with pytest.raises(BadCopy, match="do not have the sha512 that cax recorded"):
        scrub.read_one(copies.subject("lngs", here="lngs"))
    assert copies.path("lngs").exists()


def as_cax_left_it(copies, **checksums):
    """No copy has a manifest; `checksums` of some sites are cax's."""
    document = copies.database.get(RUN)
    for entry in document["data"]:
        site = next(name for name, host in SITES.items() if host == entry["host"])
        entry.pop("manifest", None)
        entry.update(checksum=checksums.get(site), caxflow={})
    copies.database.runs.update_one({"_id": document["_id"]}, {"$set": {"data": document["data"]}})


def nobody_is_condemned(copies):
    for site in SITES:
        assert copies.row(site)["status"] == "transferred"
        assert "suspect" not in copies.row(site)["caxflow"]
        assert copies.path(site).exists()
        assert aside(copies, site) == []


def test_a_copy_that_nothing_is_known_of_is_no_proof_against_others(copies):
    copies.add()
    as_cax_left_it(copies)
    copies.spoil("midway")
    scrub.read_one(copies.subject())
    assert "verified" not in copies.row("midway")["caxflow"]
    assert copies.row("midway")["manifest"].startswith("xxh128:")
    for site in ("lngs", "tegner"):
        with pytest.raises(BadCopy, match="differs from the one at midway-login1 -> find out which"):
            scrub.read_one(copies.subject(site, here=site))
    nobody_is_condemned(copies)


def test_one_that_differs_from_what_cax_recorded_of_another_gets_no_manifest(copies):
    from caxflow.files import digests

    copies.add()
    checksum = digests.cax_sha512(copies.path("lngs"))
    as_cax_left_it(copies, lngs=checksum, tegner=checksum)
    scrub.read_one(copies.subject())
    assert "verified" in copies.row("midway")["caxflow"]
    as_cax_left_it(copies, lngs=checksum, tegner=checksum)
    copies.spoil("midway")
    with pytest.raises(BadCopy, match="differs from the one at xe1t-datamanager"):
        scrub.read_one(copies.subject())
    assert "manifest" not in copies.row("midway")
    nobody_is_condemned(copies)


def test_what_cax_recorded_of_a_copy_outweighs_another_sites_manifest(copies):
    from caxflow.files import digests

    copies.add()
    as_cax_left_it(copies, tegner=digests.cax_sha512(copies.path("tegner")))
    copies.spoil("lngs")
    copies.set("lngs", manifest=copies.entry("lngs", str(RUN), 0.5)["manifest"])
    with pytest.raises(BadCopy, match="differs from the one at xe1t-datamanager"):
        scrub.read_one(copies.subject("tegner", here="tegner"))
    nobody_is_condemned(copies)
    copies.spoil("tegner")
    copies.path("tegner").joinpath("b.zip").write_bytes(b"rotten")
    with pytest.raises(BadCopy, match="do not have the sha512 that cax recorded"):
        scrub.read_one(copies.subject("tegner", here="tegner"))
    assert copies.row("tegner")["status"] == "error"


def test_a_copy_that_goes_while_it_is_read_leaves_no_half_of_an_entry(copies, monkeypatch):
    copies.add()
    real = scrub.take_manifests

    def slow(*arguments, **more):
        found = real(*arguments, **more)
        copies.database.runs.update_one(
            {}, {"$pull": {"data": {"host": SITES["midway"]}}, "$inc": {"caxflow.revision": 1}}
        )
        return found

    monkeypatch.setattr(scrub, "take_manifests", slow)
    scrub.read_one(copies.subject())
    assert copies.row("midway") is None
    assert "changed while it was read" in copies.said[-1]


def test_of_two_that_find_the_same_copy_bad_one_sets_it_aside(copies, monkeypatch):
    copies.add()
    copies.spoil("midway")
    real = scrub.take_manifests

    def slow(*arguments, **more):
        """Before this one tells what it found, another one did, and the copy came anew."""
        found = real(*arguments, **more)
        monkeypatch.setattr(scrub, "take_manifests", real)
        with pytest.raises(BadCopy, match=r"a\.zip"):
            scrub.read_one(copies.subject())
        shutil.copytree(copies.path("lngs"), copies.path("midway"))
        anew = copies.entry("midway", str(RUN), 0) | {"creation_time": now() + datetime.timedelta(hours=1)}
        copies.set("midway", **anew)
        return found

    monkeypatch.setattr(scrub, "take_manifests", slow)
    with pytest.raises(CaxflowError, match="was changed while it was read") as caught:
        scrub.read_one(copies.subject())
    assert not isinstance(caught.value, BadCopy)
    assert copies.row("midway")["status"] == "transferred"
    assert copies.whole("midway")
    assert len(aside(copies, "midway")) == 1


def test_a_source_that_turns_out_bad_is_none_any_more(copies, perform):
    copies.add(sites=["lngs", "tegner"])
    copies.spoil("lngs")
    failed, done = [perform(copies, f"midway/{RUN}.raw.done") for _ in range(2)]
    assert failed["status"] == 1
    assert "its raw copy at lngs is not what it must be: a.zip has the right size but other" in failed["said"]
    assert done["status"] == 0, done["said"]
    assert copies.whole("midway")
    assert copies.row("midway")["status"] == "verifying"
    assert copies.row("lngs")["caxflow"]["suspect"]["files"] == [
        "a.zip has the right size but other contents"
    ]
    assert len(aside(copies, "lngs")) == 1
    assert decide(copies, "lngs").targets == [f"lngs/{RUN}.checksum"]


@pytest.mark.parametrize("altered", [None, "files", "digest"])
def test_a_manifest_that_is_lost_or_altered_is_made_again_of_a_copy_that_has_its_digest(copies, altered):
    copies.add(verified_days_ago=0)
    before = copies.row("midway")
    known = copies.database.manifest(before["manifest"])
    this = {"_id": before["manifest"]}
    if altered is None:
        copies.database.manifests.delete_one(this)
    else:
        damage = {"files": {"files.0.2": "0" * 32}, "digest": {"digest": f"xxh128:{'0' * 32}"}}
        copies.database.manifests.update_one(this, {"$set": damage[altered]})
    assert copies.database.manifest(before["manifest"]) is None
    copies.spoil("tegner")
    with pytest.raises(BadCopy, match="not those of its manifest, of which only the digest is known"):
        scrub.read_one(copies.subject("tegner", here="tegner"))
    assert copies.row("tegner")["manifest"] == before["manifest"]
    assert copies.database.manifest(before["manifest"]) is None
    scrub.read_one(copies.subject())
    assert copies.row("midway")["manifest"] == before["manifest"]
    assert copies.row("midway")["caxflow"]["verified"] > before["caxflow"]["verified"]
    assert copies.database.manifest(before["manifest"]) == known


def test_a_copy_that_is_not_there_is_told_and_made_anew(copies, perform):
    copies.add()
    shutil.rmtree(copies.path("midway"))
    marker = copies.path("midway").with_name(".caxflow-root")
    marker.rename(copies.folder / "marker")
    with pytest.raises(CaxflowError, match=r"it is not condemned: \S+ \S+ has no .caxflow-root: .* -> mount"):
        scrub.read_one(copies.subject())
    assert copies.row("midway")["status"] == "transferred"
    (copies.folder / "marker").rename(marker)
    with pytest.raises(BadCopy, match="it is not there -> a later call copies it anew"):
        scrub.read_one(copies.subject())
    assert copies.row("midway")["status"] == "error"
    assert aside(copies, "midway") == []
    done = perform(copies, f"midway/{RUN}.checksum")
    assert done["status"] == 0, done["said"]
    assert copies.row("midway")["status"] == "transferred"
    assert copies.whole("midway")


def test_a_folder_in_which_nothing_is_left_may_be_a_file_system_of_its_own(copies):
    copies.add()
    folder = copies.path("midway").with_name("sr0")
    folder.mkdir()
    (folder.parent / "another").mkdir()
    copies.set("midway", location=str(folder / str(RUN)))
    with pytest.raises(CaxflowError, match=r"there is nothing in \S+/sr0 -> mount its file system"):
        scrub.read_one(copies.subject())
    assert copies.row("midway")["status"] == "transferred"


@pytest.mark.parametrize("part", [False, True])
def test_no_receipt_states_a_copy_that_is_not_there(copies, perform, part):
    copies.add()
    (copies.path("midway").parent / "another").mkdir()
    shutil.rmtree(copies.path("midway") / "log" if part else copies.path("midway"))
    done = perform(copies, f"midway/{RUN}.raw.done")
    assert done["status"] == 1
    assert ("log/eventbuilder.log is missing" if part else "it is not there") in done["said"]
    assert not copies.work("midway", f"midway/{RUN}.raw.done").exists()
    assert copies.row("midway")["status"] == "error"


def test_the_only_copy_that_is_not_there_is_shouted_about(copies):
    copies.add(sites=["midway"])
    (copies.path("midway").parent / "another").mkdir()
    shutil.rmtree(copies.path("midway"))
    with pytest.raises(
        BadCopy, match=r"THE ONLY COPY IS DAMAGED: .* it is not there -> look for another copy"
    ):
        scrub.read_one(copies.subject())


def test_while_the_database_is_away_nothing_is_moved(copies):
    copies.add()
    copies.spoil("midway")
    subject = copies.subject()
    subject.database = copies.connect(copies.settings(rundb={"uri": "mongodb://127.0.0.1:1", "timeout": 0.2}))
    error = quarantine.condemn(subject, str(copies.path("midway")), ["a.zip is changed"])
    assert "until the runs database knows" in str(error)
    assert copies.path("midway").exists()


def reading(run, verified="", size=10):
    return Reading(verified, run, "raw", None, size)


def test_a_scrub_reads_tells_and_goes_on_after_a_bad_copy(copies):
    copies.add("160315_1432", verified_days_ago=50)
    copies.add("160315_1500", verified_days_ago=40)
    copies.spoil("midway", "160315_1432")
    subject = copies.subject()
    todo = [reading("160315_1432"), reading("160315_1500")]
    bad = scrub.scrub(todo, subject.settings, subject.database, subject.say)
    assert len(bad) == 1
    assert "160315_1432" in bad[0]
    age = copies.database.now() - copies.row("midway", "160315_1500")["caxflow"]["verified"]
    assert age.total_seconds() < 3600
    assert (
        round((now() - copies.row("lngs", "160315_1500")["caxflow"]["verified"]) / datetime.timedelta(days=1))
        == 40
    )


def test_a_scrub_ends_when_its_time_is_up(copies):
    copies.add("160315_1432", verified_days_ago=50)
    copies.add("160315_1500", verified_days_ago=40)
    subject = copies.subject(scrub={"at_most": {"minutes": 1e-9}})
    todo = [reading("160315_1432"), reading("160315_1500")]
    assert scrub.scrub(todo, subject.settings, subject.database, subject.say) == []
    assert copies.row("midway", "160315_1432")["caxflow"]["verified"] > now() - datetime.timedelta(hours=1)
    assert (
        round(
            (now() - copies.row("midway", "160315_1500")["caxflow"]["verified"]) / datetime.timedelta(days=1)
        )
        == 40
    )
    assert any("the time is up; 1 copy left" in line for line in copies.said)


def test_the_only_copy_counts_again_once_its_files_are_back(copies, perform):
    copies.add(sites=["lngs"])
    good = (copies.path("lngs") / "a.zip").read_bytes()
    copies.spoil("lngs")

    def call(site):
        return perform(copies, f"{site}/{RUN}.raw.done")

    assert call("midway")["status"] == 1
    # It is no source, whatever it holds by now, before it was read again.
    assert f"have them read again: lngs/{RUN}.raw.done" in call("midway")["said"]
    still = call("lngs")
    assert still["status"] == 1
    assert "is still not what it must be: a.zip has the right size but other contents" in still["said"]
    assert "suspect" in copies.row("lngs")["caxflow"]
    (copies.path("lngs") / "a.zip").write_bytes(good)
    for site in ("lngs", "midway"):
        done = call(site)
        assert done["status"] == 0, done["said"]
    assert copies.whole("midway")
    assert copies.row("lngs")["status"] == "transferred"
    assert not {"suspect", "error"} & set(copies.row("lngs")["caxflow"])
    assert [record["action"] for record in copies.database.audit(RUN)][:2] == ["suspect", "registered"]


@pytest.mark.parametrize("to", ["another site's copy", "nothing", "its own files elsewhere", "a file"])
@pytest.mark.parametrize("elsewhere", [True, False])
def test_y3_a_link_in_a_copys_place_is_neither_proven_nor_a_source(copies, to, elsewhere):
    """A symbolic link lies where the dataset is to be; `scrub`."""
    copies.add(sites=["lngs", "midway", "tegner"] if elsewhere else ["midway"])
    path, own = copies.path("midway"), copies.folder / "own"
    path.rename(own)
    (path.parent / "other").mkdir()
    path.symlink_to(
        {
            "another site's copy": copies.path("lngs"),
            "nothing": copies.folder / "absent",
            "its own files elsewhere": own,
            "a file": own / "a.zip",
        }[to]
    )
    with pytest.raises(BadCopy, match="there is a symbolic link") as caught:
        scrub.read_one(copies.subject())
    row = copies.row("midway")
    assert row["status"] == "error"
    assert "verified" not in row["caxflow"]
    assert not evidence.good(copies.subject().find(copies.database.get(RUN)))
    assert (own / "a.zip").exists()
    if elsewhere:
        assert not path.is_symlink()
        assert aside(copies, "midway")[0].is_symlink()
        assert copies.whole("lngs")
    else:
        assert "THE ONLY COPY IS DAMAGED" in str(caught.value)
        assert path.is_symlink()


def test_y3_a_link_is_not_copied_nor_registered(copies, perform):
    copies.add(sites=["lngs"])
    copies.path("lngs").rename(copies.folder / "own")
    copies.path("lngs").symlink_to(copies.folder / "own")
    done = perform(copies, f"midway/{RUN}.raw.done")
    assert done["status"] == 1
    assert "symbolic link" in done["said"]
    assert not copies.path("midway").exists()


@pytest.mark.parametrize("where", ["160316_0000", "160316_0000/160315_1432", "160315_1432_MV"])
@pytest.mark.parametrize("bad", [True, False])
def test_y4_a_scrub_leaves_the_copies_of_other_runs_alone(copies, where, bad):
    """A row names, by hand, the place of another run."""
    copies.add()
    for run in ("160316_0000", "160315_1432_MV"):
        copies.add(run, sites=["midway"])
    there = copies.path("midway").parent / where
    if not there.exists():
        shutil.copytree(copies.path("midway"), there)
    if bad:
        (there / "a.zip").write_bytes(b"of another run")
    before = sorted(path for path in copies.path("midway").parent.rglob("*"))
    copies.set("midway", location=str(there))
    with pytest.raises(CaxflowError, match=r"is not called 160315_1432|in the folder of 160316_0000"):
        scrub.read_one(copies.subject())
    with pytest.raises(CaxflowError):
        quarantine.make_room(copies.subject())
    assert sorted(path for path in copies.path("midway").parent.rglob("*")) == before
    assert copies.row("midway")["status"] == "transferred"


@pytest.mark.parametrize("where", ["", "log"])
def test_y4_what_another_entry_speaks_of_as_well_is_not_moved_aside(copies, where):
    copies.add()
    copies.spoil("midway")
    other = {"type": "processed", "host": SITES["midway"], "pax_version": "v1", "status": "transferred"}
    other["location"] = str(copies.path("midway") / where)
    copies.database.runs.update_one({}, {"$push": {"data": other}, "$inc": {"caxflow.revision": 1}})
    with pytest.raises(CaxflowError, match="another entry of midway-login1 is in"):
        scrub.read_one(copies.subject())
    assert copies.path("midway").exists()
    assert aside(copies, "midway") == []


@pytest.mark.parametrize("odd", [".nfs000001", ".DS_Store", "core.12345", ".fuse_hidden0000000200000001"])
def test_a_file_that_came_after_caxs_checksum_is_no_evidence(copies, odd):
    from caxflow.files import digests

    copies.add(sites=["lngs"])
    for path in copies.path("lngs").rglob("*.zip"):
        path.rename(
            path.with_name(f"XENON1T-7-00000000{path.stem == 'b':d}-00000000{path.stem == 'b':d}.zip")
        )
    (copies.path("lngs") / "log/eventbuilder.log").rename(copies.path("lngs") / "eventbuilder.log")
    (copies.path("lngs") / "log").rmdir()
    copies.set("lngs", manifest=None, checksum=digests.cax_sha512(copies.path("lngs")))
    (copies.path("lngs") / odd).write_text("odd")
    scrub.read_one(copies.subject("lngs", here="lngs"))
    assert copies.row("lngs")["status"] == "transferred"
    assert copies.row("lngs")["manifest"].startswith("xxh128:")


def test_what_was_removed_while_open_makes_no_copy_bad(copies):
    copies.add()
    for site in SITES:  # as an early version kept it in manifests
        known = manifest.take(str(copies.path(site)))
        left = manifest.Entry(".nfs0000000000aa00e100000001", 1, known.entries[0].digest)
        known = manifest.Manifest(known.algorithm, (*known.entries, left))
        copies.database.keep_manifest(known.to_json())
        copies.set(site, manifest=known.digest, checksum=known.digest)
    (copies.path("midway") / ".nfs00000000004b00e100000001").write_text("of a file that is still open")
    scrub.read_one(copies.subject())
    assert copies.row("midway")["status"] == "transferred"
    assert copies.path("midway").exists()


def test_a_foreign_file_makes_no_copy_bad(copies):
    copies.add()
    before = copies.row("midway")["caxflow"]
    odd = copies.path("midway") / "core.12345"
    odd.write_text("core")
    for site in SITES:
        if site != "midway":
            shutil.rmtree(copies.path(site))
    with pytest.raises(
        CaxflowError, match=r"files that are not its own: core.12345 -> move them away"
    ) as raised:
        scrub.read_one(copies.subject())
    assert not isinstance(raised.value, BadCopy)
    assert copies.row("midway")["status"] == "transferred"
    assert copies.row("midway")["caxflow"] == before
    odd.rename(odd.with_name("b.zip"))
    with pytest.raises(BadCopy, match=r"b\.zip has 4 bytes instead of"):
        scrub.read_one(copies.subject())


@pytest.fixture
def mounted_below(copies, tmp_path):
    """midway's copy, on a file system that is mounted on a folder of its root."""
    copies.add()
    folder = copies.path("midway").parent / "sr0"
    folder.mkdir()
    with needs.mounted(folder, "-t", "tmpfs", "tmpfs"):
        copies.set("midway", location=shutil.move(copies.path("midway"), folder))
        copies.note("midway", verified=just_read())
        yield folder


def test_a_bad_copy_on_a_file_system_below_the_root_stays_on_that(copies, mounted_below):
    """Nothing is copied to the root's own file system, and nothing is refused."""
    (mounted_below / str(RUN) / "a.zip").write_bytes(b"other" * 1000)
    with pytest.raises(BadCopy, match=r"it was moved to .*/sr0/\.caxflow-quarantine/"):
        scrub.read_one(copies.subject())
    (moved,) = (mounted_below / quarantine.FOLDER).iterdir()
    assert copies.row("midway")["caxflow"]["suspect"]["quarantine"] == str(moved)
    settings = copies.settings()
    found = strays.find(copies.database, settings, settings.sites["midway"])
    assert [(stray.path, stray.what) for stray in found] == [(str(moved), strays.QUARANTINE)]


@pytest.mark.parametrize("killed", [False, True])
def test_a_copy_on_a_file_system_below_the_root_is_removed_there(copies, mounted_below, monkeypatch, killed):
    def removal():
        return Removal(copies.subject(), Demand(copies=1), "a test")

    if killed:
        with monkeypatch.context() as patched:
            patched.setattr(Removal, "empty", lambda *_: (_ for _ in ()).throw(Killed))
            with pytest.raises(Killed):
                removal().perform()
        assert len(list((mounted_below / TRASH).iterdir())) == 1
    removal().perform()
    assert copies.row("midway") is None
    assert list((mounted_below / TRASH).iterdir()) == []
