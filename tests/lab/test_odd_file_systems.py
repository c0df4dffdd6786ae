"""F1, F3, F5, F6 and their kind: what a file system lacks is left out, with a remark; what fails, fails."""

import os
import re
import shutil

import pytest

import mortal
import oddfs
from caxflow import receipts, transfer
from caxflow.config.retention import Demand
from caxflow.copies import moving, strays
from caxflow.copies.removal import Removal
from caxflow.errors import CaxflowError
from caxflow.files.manifest import take
from caxflow.processing import products
from caxflow.stages import scrub
from caxflow.targets import Run
from caxflow.transfer import Place, copy
from caxflow.transfer.session import Session
from copies import Copies

HERE = Place("here")
# What each lacks, and what the remark says of it, if it makes a difference.
LACKING = {
    "fsyncdir=EINVAL": "syncs no folders (Invalid argument)",
    "fsyncdir=EBADF": "syncs no folders (Bad file descriptor)",
    "fsyncdir=ENOTSUP": "syncs no folders (Operation not supported)",
    "fsync=EINVAL": "syncs no files (Invalid argument)",
    "utimens=EPERM": "lets no times of modification be set (Operation not permitted)",
    "utimens=ENOTSUP": "lets no times of modification be set (Operation not supported)",
    "timeless": "keeps other times of modification than it is given",
    "chmod=EPERM": "",
    "link=EXDEV": "",
    "link=EMLINK": "",
    "link=EACCES": "",
    "seconds": "",
    "even": "",
    "noblocks": "",
    "untold": "",
    "statfs=ENOSYS": "",
    "short": "",
    "truncate=EFBIG:500000": "",
}
IN_PART = r"/\.copy\.part-caxflow/data\S*"
# What fails, and what is said of it.
FAILING = {
    "fsync=EIO": IN_PART + r": Input/output error -> the disk fails",
    "fsyncdir=EIO": IN_PART + r": Input/output error -> the disk fails",
    "flush=EIO": IN_PART + r": Input/output error -> the disk fails",
    "flush=EDQUOT": IN_PART + r": Disk quota exceeded -> free space or raise the quota",
    "write=EDQUOT:300000": IN_PART + r": Disk quota exceeded -> free space or raise the quota",
    "write=ENOSPC:300000": IN_PART + r": No space left on device -> free space there",
    "write=ESTALE:300000": IN_PART + r": Stale file handle -> the network file system lost it",
    "write=EFBIG:300000": IN_PART + r": File too large -> its file system",
    "mkdir=EROFS": r"Read-only file system -> the file system is mounted read-only",
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source") / "dataset"
    (folder / "sub").mkdir(parents=True)
    for name, size in (("one.zip", 700_000), ("sub/two.zip", 2000), ("sub/none", 0)):
        (folder / name).write_bytes(os.urandom(size))
        os.utime(folder / name, ns=(1_458_052_321_123_456_789,) * 2)
    return folder


WAYS = {
    "local": lambda far: (HERE, HERE),
    "push": lambda far: (HERE, far(connections=1)),
    "pull": lambda far: (far(connections=1), HERE),
    "scp": lambda far: (HERE, far("scp")),
}


@pytest.mark.parametrize("fault", LACKING)
def test_a_copy_is_made_where_the_file_system_lacks_something(tmp_path, dataset, fault):
    """A folder and a file; what was not done is said once."""
    with oddfs.mounted(tmp_path / "odd", fault) as folder:
        for name in ("", "one.zip"):
            copied = copy(HERE, dataset / name, HERE, folder / f"copy{name}")
            assert copied.manifest == take(dataset / name)
            assert re.fullmatch(r"(its file system )?(.*)", "; ".join(copied.remarks))[2] == LACKING[fault]
        assert take(folder / "copy") == take(dataset)
        assert {path.name for path in folder.iterdir()} == {"copy", "copyone.zip"}


@pytest.mark.parametrize("fault", FAILING)
def test_what_fails_is_named_and_nothing_is_published(tmp_path, dataset, fault):
    with oddfs.mounted(tmp_path / "odd", fault) as folder:
        with pytest.raises(CaxflowError, match=FAILING[fault]):
            copy(HERE, dataset, HERE, folder / "copy")
        assert not (folder / "copy").exists()


def test_what_a_disk_refused_is_not_taken_for_written_by_the_next_attempt(tmp_path, far):
    """Once a sync has failed, memory still has what the disk has not, and the next sync succeeds."""
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    (dataset / "pages").write_bytes(os.urandom(1 << 20))
    with oddfs.mounted(tmp_path / "odd", "lossy") as folder:
        with pytest.raises(CaxflowError, match="Input/output error"):
            copy(HERE, dataset, HERE, folder / "copy")
        assert copy(HERE, dataset, HERE, folder / "copy").sent == 1 << 20
        assert take(tmp_path / "odd.behind/copy") == take(dataset)
    with oddfs.mounted(tmp_path / "far", "fsync=EIO") as folder:  # which we cannot have forget it
        with pytest.raises(CaxflowError, match=r"/pages: the server says only: Failure"):
            copy(HERE, dataset, far("scp"), folder / "copy")
        assert list(folder.rglob("pages")) == []


@pytest.mark.parametrize("way", ["push", "pull", "scp"])
def test_all_that_is_optional_may_lack_at_once(tmp_path, dataset, far, way):
    """By every method, as the one that writes finds it."""
    faults = ["fsyncdir=EINVAL", "fsync=EINVAL", "utimens=EPERM", "chmod=EPERM", "link=EXDEV", "seconds"]
    source, destination = WAYS[way](far)
    with oddfs.mounted(tmp_path / "odd", *faults, "noblocks", "untold", "short") as folder:
        copied = copy(source, dataset, destination, folder / "copy")
        assert take(folder / "copy") == take(dataset)
        said = "; ".join(copied.remarks)
        assert "syncs no files" in said
        assert "lets no times" in said
        assert ("syncs no folders" in said) == (way != "scp")
        assert len(copied.remarks) == (2 if way == "scp" else 3)
        assert copy(source, dataset, destination, folder / "copy").adopted


@pytest.mark.parametrize("fault", ["link=EXDEV", "link=EPERM", "link=EMLINK", "link=EACCES"])
def test_f6_a_single_file_and_a_marker_by_sftp_alone(tmp_path, dataset, far, fault):
    """The server links where it is asked to rename a file."""
    with oddfs.mounted(tmp_path / "odd", fault) as folder:
        copy(HERE, dataset / "one.zip", far("scp"), folder / "copy")
        assert (folder / "copy").read_bytes() == (dataset / "one.zip").read_bytes()
        assert transfer.mark(far("scp"), str(folder), "{}")
        assert not transfer.mark(far("scp"), str(folder), "{}")


@pytest.mark.parametrize("fault", ["opendir=EIO", "readdir=EIO", "unlink=EIO"])
def test_what_cannot_be_removed_is_named(tmp_path, fault):
    with oddfs.mounted(tmp_path / "run/sub/odd", fault) as folder:
        (folder.with_name("odd.behind") / "file").touch()
        with pytest.raises(CaxflowError, match=rf"^here: {tmp_path}/run\S*: Input/output error"):
            transfer.remove_tree(HERE, str(tmp_path / "run"), root=str(tmp_path))


def test_names_that_are_not_told_apart_are_named(tmp_path):
    (tmp_path / "dataset").mkdir()
    for name, content in (("A.zip", "A"), ("a.zip", "other")):
        (tmp_path / "dataset" / name).write_text(content)
    with oddfs.mounted(tmp_path / "odd", "caseless") as folder:
        with pytest.raises(CaxflowError, match=r"others than were written: A\.zip, a\.zip -> .* capitals"):
            copy(HERE, tmp_path / "dataset", HERE, folder / "copy")
        assert not (folder / "copy").exists()


@pytest.mark.parametrize(
    "fault", ["fsync=EINVAL", "fsyncdir=EINVAL", "link=EXDEV", "link=EACCES", "chmod=EPERM"]
)
def test_products_and_receipts_are_written_where_something_lacks(tmp_path, fault):
    with oddfs.mounted(tmp_path / "odd", fault, "seconds") as folder:
        with products.workshop(folder / "product") as workshop:
            (workshop.path / "product").write_bytes(b"made")
            remark = workshop.publish(folder / "product")
        assert remark.partition("; its file system ")[2] == LACKING[fault]
        products.set_aside(folder / "product", folder / "aside/product")
        assert (folder / "aside/product").read_bytes() == b"made"
        receipts.write(folder / "work/receipt", {"a": 1})
        assert receipts.read(folder / "work/receipt") == {"a": 1}
        receipts.touch(folder / "work/mark")


@pytest.mark.parametrize("fault", ["write=EDQUOT:300000", "write=ENOSPC:300000", "fsync=EIO"])
def test_a_product_that_does_not_fit_is_told_with_its_folder(tmp_path, fault):
    with oddfs.mounted(tmp_path / "odd", fault) as folder:

        def make():
            with products.workshop(folder / "product") as workshop:
                with (workshop.path / "product").open("wb") as file:
                    file.write(bytes(400_000))
                workshop.publish(folder / "product")

        with pytest.raises(CaxflowError, match=rf"^{folder}\S*: (Disk quota|No space|Input/output)"):
            make()
        assert not (folder / "product").exists()


@pytest.mark.parametrize(("way", "timeout"), [("local", 1), ("push", 3)])
def test_a_sync_that_takes_long_is_no_lack_of_progress(tmp_path, dataset, far, way, timeout):
    here = Place("here", timeout=timeout)
    place = here if way == "local" else far(timeout=timeout)
    with oddfs.mounted(tmp_path / "odd", f"slow={timeout + 1}") as folder:
        copied = copy(here, dataset / "sub/two.zip", place, folder / "copy")
        assert copied.remarks == ()


def test_what_is_there_already_needs_no_space_where_files_take_no_blocks(tmp_path):
    with oddfs.mounted(tmp_path / "odd", "noblocks") as folder:
        part = folder / ".copy.part-caxflow/data"
        part.mkdir(parents=True)
        size = shutil.disk_usage(folder).free + (1 << 30)
        with (part / "large").open("wb") as file:
            file.truncate(size)
        session = Session(lambda _: None)
        path, files = str(folder / "copy"), [["large", size]]
        begun = session.begin(path, "0" * 16, 0, files=files, directories=[], root=None)
        session.let_go()
        assert list(map(list, begun["present"])) == files


@pytest.mark.parametrize("method", ["local", "stream", "scp"])
@pytest.mark.parametrize("depth", [1, 2])
def test_f10_what_is_the_file_systems_own_is_no_data_and_what_cannot_be_read_is_named(
    tmp_path, far, method, depth
):
    place = HERE if method == "local" else far(method)
    for name in ("run/a.zip", "pax/run.root", "lost+found/#1", ".snapshot/run/a.zip", ".Trash-0/a", ".zfs/b"):
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_bytes(b"12345")
    (tmp_path / "root/.nfs000001").touch()
    root = str(tmp_path / "root")
    with (
        oddfs.mounted(tmp_path / "root/shut", "opendir=EACCES"),
        oddfs.mounted(tmp_path / "root/run/shut", "opendir=EIO"),
        oddfs.mounted(tmp_path / "root/System Volume Information", "opendir=EACCES"),
    ):
        found = {item.name: item for item in transfer.census(place, root, depth)}
        expected = {"run", "pax", "shut"} if depth == 1 else {"run/a.zip", "run/shut", "pax/run.root", "shut"}
        assert {name for name in found if "behind" not in name} == expected
        shut = {name for name, item in found.items() if item.unread}
        assert shut == {"run", "shut"} if depth == 1 else {"run/shut", "shut"}
        assert found["shut"].unread.startswith(f"{root}/shut: ")
        listed = {stray.path: stray for stray in strays.lying(found.values(), "raw", root, {f"{root}/pax"})}
        assert {path for path, stray in listed.items() if not stray.removable} == {
            f"{root}/{name}" for name in shut
        }
        assert transfer.markers(place, root) == []
    for name in ("run", "pax", "shut.behind", "System Volume Information.behind"):
        shutil.rmtree(tmp_path / "root" / name)
    (tmp_path / "root/shut").rmdir()
    assert transfer.root(place, root).empty


def test_a_run_is_copied_read_moved_and_removed_where_all_that_is_optional_lacks(
    tmp_path, database, database_uri
):
    """The work directory is on such a file system, too."""
    faults = ["fsyncdir=EINVAL", "fsync=EINVAL", "utimens=EPERM", "chmod=EPERM", "link=EXDEV"]
    faults += ["seconds", "noblocks", "untold", "short"]
    run = Run("160315_1432")
    with (
        oddfs.mounted(tmp_path / "midway", *faults) as folder,
        oddfs.mounted(tmp_path / "work", *faults),
        Copies(tmp_path, database_uri, database.name) as copies,
    ):
        copies.add(sites=["lngs"])
        zygote = mortal.Zygote(tmp_path, "onecall")
        try:
            done = zygote.call("perform", f"midway/{run}.checksum", copies.overrides())
        finally:
            zygote.close()
        assert done["status"] == 0, done["said"]
        assert copies.row("midway")["status"] == "transferred"
        (log,) = copies.work().glob(f"logs/midway/{run}.copy_raw.log")
        assert log.read_text().count("its file system lets no times of modification be set") == 1
        scrub.read_one(copies.subject())
        (folder / "raw/2016").mkdir()
        moving.Move(copies.subject(), f"{folder}/raw/2016/{run}").perform()
        assert copies.row("midway")["location"] == f"{folder}/raw/2016/{run}"
        scrub.read_one(copies.subject())
        Removal(copies.subject(), Demand(copies=1), "a test").perform()
        assert copies.row("midway") is None
        assert list(folder.rglob("*.zip")) == []
