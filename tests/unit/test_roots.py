"""Y8: nothing is written on the wrong disk, and nothing is missing there; each data root carries a marker."""

import contextlib
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

import mortal
import needs
from caxflow import transfer
from caxflow.config import reach
from caxflow.copies import renewal, roots
from caxflow.demo.sshd import SshSites
from caxflow.errors import CaxflowError
from caxflow.files import marker
from caxflow.monitoring import notify
from caxflow.stages import scrub
from caxflow.targets import Run, Target
from caxflow.transfer import Place
from caxflow.workdir import journal
from copies import FILES, SITES, Copies, mark, names
from invariants import tree

RUN, NEW = Run("160315_1432"), Run("160316_0900")
POLICY = {"purge": {"after_days": 1, "copies": 2, "processed": False}}


@pytest.fixture
def copies(tmp_path, database, database_uri):
    with Copies(tmp_path, database_uri, database.name) as copies:
        copies.add()
        yield copies


@pytest.fixture(scope="module")
def perform(tmp_path_factory):
    """What a call of midway's workflow for a target ends with."""
    zygote = mortal.Zygote(tmp_path_factory.mktemp("zygote"), "onecall")
    yield lambda copies, target, **keys: zygote.call("perform", target, copies.overrides(**keys))
    zygote.close()


def root_of(copies, site="midway", kind="raw"):
    return copies.folder / site / kind


def said(copies, site="midway", kind="raw"):
    return json.loads((root_of(copies, site, kind) / marker.NAME).read_text())


@contextlib.contextmanager
def not_mounted(root):
    """An empty mount point in the place of the file system."""
    with needs.mounted(root, "-t", "tmpfs", "none"):
        yield


@contextlib.contextmanager
def unmarked(root):
    (root / marker.NAME).unlink()
    yield


def marked(**keys):
    @contextlib.contextmanager
    def other(root):
        path = root / marker.NAME
        path.write_text(json.dumps(json.loads(path.read_text()) | keys))
        yield

    return other


@contextlib.contextmanager
def damaged(root):
    """Half of it, as after a crash on a file system that knows no links."""
    path = root / marker.NAME
    path.write_text(path.read_text()[:20])
    yield


def instead(make):
    @contextlib.contextmanager
    def odd(root):
        path = root / marker.NAME
        path.unlink()
        make(path)
        yield

    return odd


def large(path):
    path.write_text(json.dumps({"site": "midway", "kind": "raw", "id": "0" * 2 * marker.LARGEST}))


def linked(path):
    """To a marker that is good."""
    roots.make(Place("here"), str(path.parent.parent), path.parent.parent.name, "raw")
    path.symlink_to(path.parent.parent / marker.NAME)


ODD = {
    "a link": (linked, "is a symbolic link"),
    "a link to itself": (lambda path: path.symlink_to(path), "is a symbolic link"),
    "a link to nothing": (lambda path: path.symlink_to(path.parent / "none"), "is a symbolic link"),
    "a directory": (Path.mkdir, "is a directory"),
    "a full directory": (lambda path: shutil.copytree("/etc/skel", path), "is a directory"),
    "a pipe": (os.mkfifo, "is no file"),
    "empty": (Path.touch, "is damaged"),
    "large": (large, "is damaged"),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("site", ["midway", "tegner"])
def test_y8_what_has_the_name_of_a_marker_is_named_with_what_mends_it(copies, caxflow, perform, site, odd):
    """A link, a directory, a pipe in the place of the marker: what is said leads out of it."""
    copies.add(str(NEW), sites=["lngs"])
    root, (make, says) = root_of(copies, site), ODD[odd]
    place = root / marker.NAME
    with instead(make)(root):
        before = tree(root)
        for found in (
            caxflow("doctor", site)[1],
            caxflow("doctor", "--mark-roots", site)[1],
            caxflow("doctor", "--mark-roots", "--replaced", site)[1],
            perform(copies, f"{site}/{NEW}.raw.done")["said"],
            remove(copies, caxflow, perform, site),
        ):
            assert f"{place}, which says whose data these are, {says}" in found
            assert f"rm -r {place}; caxflow doctor --mark-roots {site}" in found
        assert tree(root) == before
    subprocess.run(["rm", "-r", place], check=True)
    assert caxflow("doctor", "--mark-roots", site)[0] == 0
    assert perform(copies, f"{site}/{NEW}.raw.done")["status"] == 0


def test_y8_a_marker_that_may_not_be_read_is_named_with_what_mends_it(copies, require):
    """As an account that is not bound by modes only because it is root's."""
    (root_of(copies) / marker.NAME).chmod(0)
    words = [require("setpriv"), "--bounding-set", "-dac_override,-dac_read_search", sys.executable]
    for more in ([], ["--mark-roots"]):
        done = subprocess.run(
            [*words, "-m", "caxflow.cli", "doctor", "midway", *more, "--profile", copies.profile()],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert (
            f"{root_of(copies)}/.caxflow-root, which says whose data these are, cannot be read" in done.stdout
        )
        assert f"chmod a+r {root_of(copies)}/.caxflow-root" in done.stdout


def test_a_root_that_may_not_be_listed_shows_no_traceback(copies, require):
    """And has no marker: what is asked is whether it is empty, and may be a new one."""
    copies.add(str(NEW), sites=["lngs"])
    root = root_of(copies)
    (root / marker.NAME).unlink()
    root.chmod(0o311)
    words = [require("setpriv"), "--bounding-set", "-dac_override,-dac_read_search", sys.executable]
    done = subprocess.run(
        [*words, "-m", "caxflow.cli", "why", str(NEW), "--profile", copies.profile()],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert f"no raw data are written at midway: {root}: Permission denied" in " ".join(done.stdout.split())


def test_of_a_root_that_may_not_be_reached_all_runs_are_told_the_same(copies, require):
    program = (
        "import sys; from caxflow import config; from caxflow.planning.presence import Presence\n"
        "presence = Presence(config.load({'site': 'midway'}, sys.argv[1]).here)\n"
        "print(presence.unready('raw'), presence.unready('raw'), sep='\\n')"
    )
    root_of(copies).parent.chmod(0o600)
    done = subprocess.run(
        [
            *[require("setpriv"), "--bounding-set", "-dac_override,-dac_read_search", sys.executable],
            *["-c", program, copies.folder / "config"],
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    root_of(copies).parent.chmod(0o755)
    first, second = done.stdout.splitlines()
    assert f"{root_of(copies)}: Permission denied" in first
    assert first == second


DISKS = {
    "not mounted": (not_mounted, "has no .caxflow-root: its file system may not be mounted -> mount it"),
    "nobody's": (unmarked, "has no .caxflow-root"),
    "of another site": (marked(site="elsewhere"), "is marked as that of the raw data of site elsewhere"),
    "of another kind": (marked(kind="other"), "is marked as that of the other data of site"),
    "a link": (instead(linked), ".caxflow-root, which says whose data these are, is a symbolic link"),
    "damaged": (damaged, ".caxflow-root, which says whose data these are, is damaged"),
}


def copy(copies, caxflow, perform, site):
    return perform(copies, f"{site}/{NEW}.raw.done")["said"]


def remove(copies, caxflow, perform, site):
    return caxflow("rm", RUN, "--at", site, "--because", "full", "--copies", "1")[2]


def preview_of_removing(copies, caxflow, perform, site):
    return caxflow("rm", "-n", RUN, "--at", site)[2]


def move(copies, caxflow, perform, site):
    return caxflow("mv", RUN, "--at", site, "--to", f"{root_of(copies, site)}/sr0/{RUN}")[2]


def purge(copies, caxflow, perform, site):
    """What the policy has no use for; at another site, what it would not, on the same evidence."""
    if site != "midway":
        return remove(copies, caxflow, perform, site)
    return perform(copies, "purge", **POLICY)["said"]


def strays(copies, caxflow, perform, site):
    stray = root_of(copies, site) / "stray"
    return caxflow("strays", "--at", site, "--remove", stray)[2]


def read_again(copies, caxflow, perform, site):
    with pytest.raises(CaxflowError) as error:
        scrub.read_one(copies.subject(site, here=site))
    return str(error.value)


ACTIONS = [copy, remove, preview_of_removing, move, purge, strays, read_again]


@pytest.mark.parametrize("disk", DISKS)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("site", ["midway", "tegner"])
def test_y8_on_the_wrong_disk_nothing_is_written_nor_condemned(copies, caxflow, perform, site, action, disk):
    """`snakemake all`, push, rm, mv, purge, scrub where the root's file system is not mounted."""
    copies.add(str(NEW), sites=["lngs"])
    (root_of(copies, site) / "stray").mkdir()
    if action is read_again:
        copies.spoil(site)
    wrong, says = DISKS[disk]
    with wrong(root_of(copies, site)):
        before = tree(root_of(copies, site))
        found = action(copies, caxflow, perform, site)
        assert tree(root_of(copies, site)) == before
        if not (action is strays and disk == "not mounted"):  # there is no stray, then
            assert says in found
        row = copies.row(site)
        assert row["status"] == "transferred"
        assert not {"suspect", "removing", "moving"} & set(row["caxflow"])
        assert "Traceback" not in found


@pytest.mark.parametrize("disk", DISKS)
@pytest.mark.parametrize("site", ["midway", "tegner"])
def test_the_wrong_disk_counts_as_no_attempt(copies, caxflow, perform, site, disk):
    """As after an upgrade: each call fails until the roots are marked, and the next one copies at once."""
    copies.add(str(NEW), sites=["lngs"])
    wrong, says = DISKS[disk]
    target, path = Target(site, NEW, "raw.done"), root_of(copies, site) / marker.NAME
    right = path.read_text()
    with wrong(root_of(copies, site)):
        for _ in range(3):
            assert says in perform(copies, f"{site}/{NEW}.raw.done", attempts=1)["said"]
        assert journal.failure(copies.work(), target)["attempts"] == 0
        perform(copies, "all", attempts=1)
        assert copies.row(site, str(NEW))["caxflow"]["attempts"] == 0
        settings = copies.settings(attempts=3)
        assert any(
            says.partition(" -> ")[0] in each.key for each in notify.alarms(settings, copies.work(), [])
        )
        code, out, _ = caxflow("why", NEW)
        assert code == 1
        assert says.partition(" -> ")[0] in out
    path.unlink(missing_ok=True)
    path.write_text(right)
    done = perform(copies, "all", attempts=1)
    assert done["status"] == 0, done["said"]
    assert copies.whole(site, str(NEW))
    assert "attempts" not in copies.row(site, str(NEW))["caxflow"]


@pytest.mark.parametrize("disk", DISKS)
def test_y8_a_processed_file_is_not_renewed_on_the_wrong_disk(copies, disk):
    name = f"processed/pax_v0.0.1/{RUN}.root"
    for site in ("midway", "tegner"):
        (copies.folder / site / name).parent.mkdir()
        (copies.folder / site / name).write_bytes(b"made")
    row = {"type": "processed", "host": SITES["tegner"], "status": "transferred", "pax_version": "v0.0.1"}
    row["location"] = str(copies.folder / "tegner" / name)
    copies.database.runs.update_many({}, {"$push": {"data": row}})
    settings = copies.settings()
    subject = copies.subject("tegner", kind="processed", version="v0.0.1")
    paths = [str(copies.folder / site / name) for site in ("midway", "tegner")]
    root = root_of(copies, "tegner", "processed")
    with DISKS[disk][0](root):
        before = tree(root)
        with pytest.raises(CaxflowError, match=r"\.caxflow-root|is marked as that of"):
            roots.ensure(settings, copies.database, subject.site, "processed", paths[1])
        if disk != "of another kind":  # that is looked at before
            source = reach.place(settings, settings.here)
            with pytest.raises(CaxflowError, match=r"\.caxflow-root|is marked as that of"):
                renewal.renew(subject, source, paths[0], paths[1], expected=None, old="xxh128:00")
        assert tree(root) == before


def test_a_witness_on_a_disk_that_is_not_mounted_is_not_condemned(copies, caxflow):
    with not_mounted(root_of(copies, "lngs")):
        code, _, err = caxflow("rm", RUN, "--because", "full")
        assert (code, "there is nothing at" in err) == (1, True)
    assert copies.row("lngs")["status"] == "transferred"
    assert copies.whole("midway")


def test_a_source_need_not_be_marked(copies, perform):
    """Raw data are read where they are born; nothing is written on that disk."""
    copies.add(str(NEW), sites=["lngs"])
    (root_of(copies, "lngs") / marker.NAME).unlink()
    before = tree(root_of(copies, "lngs"))
    done = perform(copies, f"midway/{NEW}.checksum")
    assert done["status"] == 0, done["said"]
    assert tree(root_of(copies, "lngs")) == before
    assert copies.whole("midway", str(NEW))


def test_an_empty_root_of_which_nothing_is_known_is_marked_by_the_first_copy(copies, perform, caxflow):
    copies.database.runs.delete_many({})
    for site in ("midway", "tegner"):
        shutil.rmtree(root_of(copies, site))
        root_of(copies, site).mkdir()
    copies.add(str(NEW), sites=["lngs"])
    done = perform(copies, "all")
    assert done["status"] == 0, done["said"]
    for site in ("midway", "tegner"):
        assert (said(copies, site)["site"], said(copies, site)["kind"]) == (site, "raw")
        assert copies.whole(site, str(NEW))
        assert stat.S_IMODE((root_of(copies, site) / marker.NAME).stat().st_mode) == 0o644
    assert said(copies)["id"] != said(copies, "tegner")["id"]
    assert caxflow("strays")[:2] == (0, "nothing is astray at midway\n")


def test_a_preview_marks_nothing(copies, caxflow):
    copies.database.runs.update_many({}, {"$pull": {"data": {"host": SITES["midway"]}}})
    shutil.rmtree(root_of(copies))
    root_of(copies).mkdir()
    settings = copies.settings(dry=True)
    roots.ensure(settings, copies.connect(settings), settings.here, "raw")
    code, out, _ = caxflow("doctor", "--mark-roots", dry=True)
    assert (code, "would be marked" in out) == (0, True)
    assert list(root_of(copies).iterdir()) == []


def test_an_empty_root_of_which_something_is_known_is_not_marked(copies, perform, caxflow):
    """Y8 as it was found: an existing site, whose disk was not mounted when it was upgraded."""
    shutil.rmtree(root_of(copies))
    root_of(copies).mkdir()
    copies.add(str(NEW), sites=["lngs"])
    done = perform(copies, "all")
    assert f"{root_of(copies)} has no .caxflow-root" in done["said"]
    assert list(root_of(copies).iterdir()) == []
    code, out, _ = caxflow("doctor", "--mark-roots")
    assert code == 1
    assert f"nothing is in {root_of(copies)} of what the runs database knows there" in out
    assert "caxflow doctor --mark-roots --replaced midway" in out
    assert list(root_of(copies).iterdir()) == []
    code, out, _ = caxflow("doctor", "--mark-roots", "--replaced")
    assert code == 0, out
    assert said(copies)["site"] == "midway"


@pytest.mark.parametrize("status", ["transferring", "error"])
def test_what_a_row_does_not_promise_makes_no_root_known(copies, perform, status):
    """An attempt that failed before anything was there must not be in the way of the next."""
    copies.database.runs.update_many({}, {"$pull": {"data": {"host": SITES["midway"]}}})
    row = {"type": "raw", "host": SITES["midway"], "status": status, "location": str(copies.path("midway"))}
    copies.database.runs.update_many({}, {"$push": {"data": row | {"caxflow": {"error": "no route"}}}})
    shutil.rmtree(root_of(copies))
    root_of(copies).mkdir()
    settings = copies.settings()
    roots.ensure(settings, copies.database, settings.here, "raw")
    assert said(copies)["site"] == "midway"


def test_existing_sites_get_their_markers_by_one_command(copies, caxflow):
    for kind in ("raw", "processed", "minitrees"):
        (root_of(copies, kind=kind) / marker.NAME).unlink()
    code, out, _ = caxflow("doctor", "--mark-roots")
    assert code == 0, out
    assert out.count("is marked as that of site midway") == 3
    ids = {said(copies, kind=kind)["id"] for kind in ("raw", "processed", "minitrees")}
    assert len(ids) == 3
    code, out, _ = caxflow("doctor", "--mark-roots")
    assert (code, out.count("is marked already")) == (0, 3)
    (root_of(copies, "tegner") / marker.NAME).unlink()
    assert caxflow("doctor", "--mark-roots", "tegner")[0] == 0
    assert said(copies, "tegner")["site"] == "tegner"
    assert caxflow("doctor", "--replaced")[0] == 2


def test_a_site_that_was_renamed_is_marked_anew_by_the_commands_that_are_named(copies, caxflow):
    folder = copies.folder / "config/sites"
    renamed = yaml.safe_load((folder / "midway.yaml").read_text())
    (folder / "midway.yaml").unlink()
    (folder / "chicago.yaml").write_text(yaml.safe_dump(renamed))
    settings = copies.settings("chicago")
    with pytest.raises(CaxflowError, match="raw data of site midway") as error:
        roots.check(settings, settings.here, "raw")
    assert f"rm {root_of(copies)}/.caxflow-root; caxflow doctor --mark-roots chicago" in str(error.value)
    (root_of(copies) / marker.NAME).unlink()
    assert roots.mark(settings, copies.database, settings.here, "raw")
    roots.check(settings, settings.here, "raw")


def test_a_lower_part_that_is_a_file_system_of_its_own(copies):
    """The root's marker is there, the folder that is to hold the copy is an empty mount point."""
    version = copies.keep_processed()
    (made,) = copies.add_made("processed", version)
    settings, folder = copies.settings(), made.parent
    with not_mounted(folder):
        with pytest.raises(
            CaxflowError, match=f"{folder} is empty, and the runs database knows {made} -> mount"
        ):
            roots.ensure(settings, copies.database, settings.here, "processed", str(folder / f"{NEW}.root"))
        with pytest.raises(
            CaxflowError, match=f"not condemned: midway: there is nothing in {folder} -> mount"
        ):
            scrub.read_one(copies.subject(kind="processed", version=version))
    assert copies.made("processed")[version]["status"] == "transferred"
    roots.ensure(settings, copies.database, settings.here, "processed", str(folder / f"{NEW}.root"))


@pytest.fixture(scope="module")
def far(tmp_path_factory, require):
    require("sshd")
    with SshSites(tmp_path_factory.mktemp("roots") / "sites", ["far"], embedded=False) as sites:
        yield lambda method: Place("far", method, host="far", ssh_config=str(sites.ssh_config))


@pytest.fixture(params=["local", "stream", "scp"])
def place(request, far):
    return Place("far") if request.param == "local" else far(request.param)


def test_a_marker_by_every_method(place, tmp_path):
    root = tmp_path / "raw"
    assert transfer.root(place, str(root)).kind is None
    root.mkdir()
    look = transfer.root(place, str(root), str(root / "a"))
    assert (look.kind, look.marker, look.empty, look.folder) == ("directory", None, True, None)
    assert roots.identity(place, str(root)) is None
    with pytest.raises(CaxflowError, match=r"far: \S+ has no .caxflow-root"):
        transfer.copy(Place("here"), _dataset(tmp_path), place, str(root / "a"), root=str(root))
    assert list(root.iterdir()) == []
    assert roots.make(place, str(root), "far", "raw")
    known = roots.identity(place, str(root))
    assert known == json.loads((root / marker.NAME).read_text())["id"]
    assert not roots.make(place, str(root), "other", "raw")
    assert roots.identity(place, str(root)) == known
    assert [path.name for path in root.iterdir()] == [marker.NAME]
    (root / "a").mkdir()
    assert transfer.root(place, str(root), str(root / "a")).folder == "empty"
    (root / "link").symlink_to(root)
    assert transfer.root(place, str(root / "link")).marker
    for make, says in ODD.values():
        (root / "odd").mkdir()
        make(root / "odd" / marker.NAME)
        with pytest.raises(CaxflowError, match=f"/odd/.caxflow-root, which .* {says} -> if"):
            marker.parse(transfer.root(place, str(root / "odd")).marker, str(root / "odd"))
        assert not roots.make(place, str(root / "odd"), "far", "raw")
        shutil.rmtree(root / "odd")
    transfer.rename(place, str(root / "a"), str(root / "b"), root=str(root))
    other = Place(**{**vars(place), "site": "other"})
    with pytest.raises(CaxflowError, match="is marked as that of the raw data of site far"):
        transfer.rename(other, str(root / "b"), str(root / "c"), root=str(root))
    with pytest.raises(CaxflowError, match="is marked as that of the raw data of site far"):
        transfer.copy(Place("here"), _dataset(tmp_path), other, str(root / "c"), root=str(root))
    assert names(root) == ["b", "link"]


def _dataset(folder):
    (folder / "data").mkdir(exist_ok=True)
    for name in FILES:
        (folder / "data" / name).parent.mkdir(exist_ok=True)
        (folder / "data" / name).write_bytes(FILES[name])
    return str(folder / "data")


def test_of_two_that_mark_at_the_same_time_one_does(place, tmp_path):
    made, start = [], threading.Barrier(4)

    def mark(number):
        start.wait()
        made.append(roots.make(place, str(tmp_path), f"site{number}", "raw"))

    threads = [threading.Thread(target=mark, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False, False, False, True]
    assert [path.name for path in tmp_path.iterdir()] == [marker.NAME]
    assert marker.parse((tmp_path / marker.NAME).read_text(), "x")["site"].startswith("site")


def test_without_links_a_marker_is_made_all_the_same(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert roots.make(Place("here"), str(tmp_path), "here", "raw")
    assert not roots.make(Place("here"), str(tmp_path), "here", "raw")
    assert [path.name for path in tmp_path.iterdir()] == [marker.NAME]


def test_a_root_that_cannot_be_written_says_so(copies):
    root = root_of(copies)
    (root / marker.NAME).unlink()
    with needs.mounted(root, "--bind", "-o", "ro", str(root)):
        settings = copies.settings()
        with pytest.raises(CaxflowError, match="Read-only file system"):
            roots.mark(settings, copies.database, settings.here, "raw")


@pytest.mark.parametrize("method", ["local", "stream"])
def test_a_marker_is_no_data(far, method, tmp_path):
    place = Place("far") if method == "local" else far(method)
    (tmp_path / "run").mkdir()
    roots.make(place, str(tmp_path), "far", "raw")
    (tmp_path / f"{marker.NAME}.0123").write_text("half")
    assert [item.name for item in transfer.census(place, str(tmp_path))] == ["run"]
    assert [item.name for item in transfer.census(place, str(tmp_path), 2)] == []


def test_doctor_looks_at_the_marker_before_it_tries_to_write(copies, caxflow):
    with not_mounted(root_of(copies)), not_mounted(root_of(copies, "tegner")):
        code, out, _ = caxflow("doctor")
        assert code == 1
        for site in ("here", "at tegner"):
            assert f"FAIL raw data {site}: " in out
        assert "caxflow doctor --mark-roots midway" in out
    (root_of(copies, "lngs") / marker.NAME).unlink()
    code, out, _ = caxflow("doctor")
    assert "look raw data at lngs: " in out
    assert "reading needs no marker" in out


def link_above(copies):
    """L6: a symbolic link above the root."""
    shutil.rmtree(copies.folder / "tegner")
    (copies.folder / "tegner").symlink_to(copies.folder / "midway")
    return contextlib.nullcontext()


def link_at(copies):
    shutil.rmtree(root_of(copies, "tegner"))
    root_of(copies, "tegner").symlink_to(root_of(copies))
    return contextlib.nullcontext()


def bind_mount(copies):
    return needs.mounted(root_of(copies, "tegner"), "--bind", str(root_of(copies)))


def bind_mount_of_a_part(copies):
    """One root is a folder of the other, under another path."""
    (root_of(copies) / "part").mkdir()
    mounted = needs.mounted(root_of(copies, "tegner"), "--bind", str(root_of(copies) / "part"))
    mark_inner(copies)
    return mounted


def mark_inner(copies):
    roots.make(Place("tegner"), str(root_of(copies) / "part"), "tegner", "raw")


def link_to_a_part(copies):
    (root_of(copies) / "part").mkdir()
    mark_inner(copies)
    shutil.rmtree(root_of(copies, "tegner"))
    root_of(copies, "tegner").symlink_to(root_of(copies) / "part")
    return contextlib.nullcontext()


ONE_STORAGE = [link_above, link_at, bind_mount, bind_mount_of_a_part, link_to_a_part]


@pytest.mark.parametrize("how", ONE_STORAGE)
@pytest.mark.parametrize("method", ["local", "stream", "scp"])
def test_l6_doctor_tells_two_sites_of_one_storage(copies, caxflow, far, how, method):
    if method != "local":
        path, place = copies.folder / "config/sites/tegner.yaml", far(method)
        access = {"method": method, "host": place.host, "ssh_config": place.ssh_config}
        path.write_text(path.read_text() + yaml.safe_dump({"access": access}))
    with how(copies):
        code, out, _ = caxflow("doctor")
    assert code == 1
    one, other = (f"{root_of(copies, site)} of site {site}" for site in ("midway", "tegner"))
    how = "one below the other" if "part" in how.__name__ else "one storage"
    assert f"FAIL storage: {one} and {other} are {how}" in out or f"{other} and {one} are {how}" in out
    assert "lngs" not in "".join(line for line in out.splitlines() if "storage" in line)


def test_l5_two_names_of_one_host_are_one_storage(copies, caxflow, far):
    """Two site files that name one machine by two names, and one folder there."""
    config = Path(far("stream").ssh_config)
    second = copies.folder / "ssh_config"
    second.write_text(config.read_text().replace("Host far\n", "Host far other\n"))
    root = copies.folder / "far"
    mark("lngs", {"raw": str(root)})
    for site, host in (("lngs", "far"), ("tegner", "other")):
        path = copies.folder / f"config/sites/{site}.yaml"
        document = yaml.safe_load(path.read_text())
        document["access"] = {"method": "stream", "host": host, "ssh_config": str(second)}
        document["roots"]["raw"] = str(root)
        path.write_text(yaml.safe_dump(document))
    code, out, _ = caxflow("doctor")
    assert code == 1
    assert f"FAIL storage: {root} of site lngs and {root} of site tegner are one storage" in out
