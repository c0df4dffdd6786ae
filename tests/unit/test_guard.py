"""What other accounts put into the work directory, the runs page or a growing copy is not trusted."""

import contextlib
import os
import subprocess

import pytest

import needs
from caxflow import owners, plainfile, receipts
from caxflow.errors import CaxflowError
from caxflow.page import site
from caxflow.transfer.limiter import Limiter
from caxflow.transfer.part import Part
from caxflow.workdir import guard, lock

NOBODY = 65534
FOLDERS = (".snakemake/scripts", ".snakemake/log", ".caxflow/pending", "logs/midway", "midway")


@pytest.fixture
def work_dir(tmp_path):
    folder = tmp_path / "work"
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
    for name in (".caxflow/plan.json", ".caxflow/lock", ".caxflow/bandwidth.lngs"):
        (folder / name).write_text("{}")
    guard.check(folder)
    return folder


def given_away(path):
    needs.root()
    os.lchown(path, NOBODY, NOBODY)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o2770, 0o1777])
@pytest.mark.parametrize("name", ["", *FOLDERS])
def test_h3_a_folder_that_others_may_write_to_is_named(work_dir, name, mode):
    (work_dir / name).chmod(mode)
    with pytest.raises(CaxflowError, match=r"may be written by (group root|all accounts)") as caught:
        guard.check(work_dir)
    assert caught.value.what.startswith(f"{work_dir / name} ")
    assert caught.value.mend.endswith(f"chmod -R go-w {work_dir}")
    assert [path for path, _ in guard.found(work_dir)] == [work_dir / name]


@pytest.mark.parametrize("entry", ["g:1234:rwx", "u:1234:rwx", "g::rwx", "o::rwx"])
def test_a_folder_whose_access_list_has_others_write_to_what_is_made_in_it_is_named(
    work_dir, require, entry, tmp_path
):
    def listed(*words):
        subprocess.run([require("setfacl"), *words], check=True)

    listed("-d", "-m", "u:1234:r-x,g:1234:r-x", str(work_dir))
    guard.check(work_dir)
    listed("-d", "-m", entry, str(work_dir / "logs"))
    with pytest.raises(CaxflowError, match=r"logs has a default access list by which others") as caught:
        guard.check(work_dir)
    (work_dir / "logs/new").mkdir(0o755)
    subprocess.run(caught.value.mend.partition(": ")[2], shell=True, check=True)
    guard.check(work_dir)


@pytest.mark.parametrize("name", [*FOLDERS, ".caxflow/plan.json", ".caxflow/lock"])
def test_h3_what_another_account_put_there_is_named(work_dir, name):
    given_away(work_dir / name)
    with pytest.raises(CaxflowError, match="belongs to nobody") as caught:
        guard.check(work_dir)
    assert f"rm -r {work_dir / name}" in caught.value.mend


def test_h3_a_link_of_another_account_is_named(work_dir):
    (work_dir / "midway").rmdir()
    (work_dir / "midway").symlink_to(work_dir.parent)
    guard.check(work_dir)  # our own
    given_away(work_dir / "midway")
    with pytest.raises(CaxflowError, match="midway belongs to nobody"):
        guard.check(work_dir)


def test_a_folder_above_in_which_others_could_exchange_it_is_named(work_dir):
    assert list(guard.above(work_dir)) == []
    work_dir.parent.chmod(0o1777)
    assert list(guard.above(work_dir)) == []  # as /tmp
    work_dir.parent.chmod(0o777)
    assert [path for path, _ in guard.above(work_dir)] == [work_dir.parent]


def planted(path, how):
    path.write_text('{"stage": "raw.done"}')
    if how == "of another account":
        given_away(path)
    elif how == "writable":
        path.chmod(0o664)
    else:
        path.rename(path.with_name("other"))
        path.symlink_to("other")


@pytest.mark.parametrize("how", ["of another account", "writable", "link"])
def test_h7_a_receipt_that_others_wrote_states_nothing(tmp_path, how):
    path = tmp_path / "160315_1432.raw.done"
    planted(path, how)
    with pytest.raises(CaxflowError, match=r"not trusted: it (belongs|may be)|Too many levels") as caught:
        receipts.read(path)
    assert caught.value.mend == receipts.REMOVE
    receipts.write(path, {"stage": "raw.done"})
    assert receipts.read(path) == {"stage": "raw.done"}


def test_receipts_of_another_accounts_work_directory_can_be_looked_at(tmp_path):
    path = tmp_path / "work/160315_1432.raw.done"
    receipts.write(path, {"stage": "raw.done"})
    given_away(path)
    given_away(path.parent)
    assert receipts.read(path)


LOCKS = {
    "lock": lambda path: os.close(lock.take(path, AssertionError)),
    "mark": receipts.touch,
    "ledger": lambda path: Limiter(1e9, None, str(path))(1),
    "state": lambda path: plainfile.replace(path, b"{}"),
}


@pytest.mark.parametrize("how", ["link", "hard link"])
@pytest.mark.parametrize("what", LOCKS)
def test_h7_what_lies_in_the_place_of_a_state_file_is_not_written_to(tmp_path, what, how):
    precious, path = tmp_path / "precious", tmp_path / "work/file"
    precious.write_text("precious")
    path.parent.mkdir()
    if how == "link":
        path.symlink_to(precious)
    else:
        os.link(precious, path)
    with contextlib.suppress(CaxflowError):
        LOCKS[what](path)
    assert precious.read_text() == "precious"


@pytest.mark.parametrize("how", ["of another account", "writable", "link"])
def test_h7_a_growing_copy_of_another_account_is_not_continued(tmp_path, how):
    container = tmp_path / ".copy.part-caxflow"
    (container / "data").mkdir(parents=True)
    if how == "of another account":
        given_away(container)
    elif how == "writable":
        container.chmod(0o777)
    else:
        container.rename(tmp_path / "other")
        container.symlink_to("other")
    part = Part(str(tmp_path / "copy"), "token")
    with pytest.raises(CaxflowError, match=r"belongs to nobody|may be written|symbolic link") as caught:
        part.begin(wait=0)
    part.close()
    assert str(container) in str(caught.value)


def test_h7_the_runs_page_is_not_written_where_others_may_write(tmp_path):
    page = tmp_path / "page"
    (page / "data/runs").mkdir(parents=True)
    (page / "index.html").touch()
    site._check_folder(page)
    for path in (page / "data/runs", page):
        path.chmod(0o2775)
        with pytest.raises(CaxflowError, match="is written, may be written by group root") as caught:
            site._check_folder(page)
        assert str(path) in caught.value.what
        assert f"chmod -R go-w {page}" in caught.value.mend


def test_others_may_write_to_nothing_that_is_made(tmp_path):
    before = os.umask(0)
    try:
        owners.mask()
        assert os.umask(0o027) == 0o022
        owners.mask()
        assert os.umask(0o077) == 0o027, "what the account shuts out stays out"
    finally:
        os.umask(before)
