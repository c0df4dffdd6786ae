"""Bringing files to the disk: times, errors, and when a file system is synced as a whole."""

import os
import subprocess

import pytest

from caxflow.errors import CaxflowError
from caxflow.files.folder import Folder
from caxflow.transfer import durable

MTIME = 1_458_052_320_123_456_789


@pytest.fixture
def times(tmp_path):
    (tmp_path / "sub").mkdir()
    names = [f"{number}.zip" for number in range(durable._MANY)] + ["sub/file"]
    for name in names:
        (tmp_path / name).write_bytes(b"content")
    return {name: MTIME + number * 1000 for number, name in enumerate(names)}


@pytest.fixture
def folder(tmp_path, times):
    folder = Folder(str(tmp_path))
    yield folder
    folder.close()


@pytest.fixture
def synced(monkeypatch):
    """Descriptors' inodes that were synced, each file by itself."""
    inodes = []
    fsync = os.fsync

    def note(fd):
        inodes.append(os.fstat(fd).st_ino)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", note)
    return inodes


def inodes(tmp_path, times):
    return sorted((tmp_path / name).stat().st_ino for name in times)


@pytest.mark.parametrize("whole", [True, False])
def test_times_are_set_and_every_file_is_synced(tmp_path, folder, times, synced, monkeypatch, whole):
    monkeypatch.setattr(durable, "sync_file_system", lambda fd: whole)
    beats = []
    durable.sync_files(folder, times, lambda: beats.append(1))
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in times} == times
    assert sorted(synced) == ([] if whole else inodes(tmp_path, times))
    assert len(beats) == len(times) * (1 if whole else 2)


def test_few_files_do_not_make_everybody_wait(tmp_path, folder, synced, monkeypatch):
    monkeypatch.setattr(durable, "sync_file_system", lambda fd: pytest.fail("the whole file system"))
    durable.sync_files(folder, {"0.zip": MTIME}, lambda: None)
    assert synced == inodes(tmp_path, ["0.zip"])


@pytest.mark.parametrize("many", [True, False])
def test_failures_name_the_file(folder, times, monkeypatch, many):
    if not many:
        times = dict(list(times.items())[:5])
    monkeypatch.setattr(durable, "sync_file_system", lambda fd: False)
    bad = sorted(times)[-2]

    def sync_file(self, path):
        if path == bad:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(Folder, "sync_file", sync_file)
    with pytest.raises(CaxflowError, match=rf"{bad}: Input/output error -> the disk fails"):
        durable.sync_files(folder, times, lambda: None)


def test_when_a_file_system_is_synced_as_a_whole(tmp_path, folder, monkeypatch):
    def answer(kind="ext4", waiting=0, release="6.1.0-13-amd64"):
        monkeypatch.setattr(durable, "_kind", lambda fd: kind)
        monkeypatch.setattr(durable, "_waiting", lambda: waiting)
        monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "here", release, "", "x86_64")))
        return durable.sync_file_system(folder.fileno())

    assert answer()
    assert answer("xfs", release="5.8.0")
    assert not answer("nfs4")
    assert not answer("")
    assert not answer(waiting=durable._MOST_WAITING + 1)
    assert not answer(release="5.7.19")
    assert not answer(release="3.10.0-1160.el7.x86_64")
    assert not answer(release="strange")


def test_what_the_machine_says(tmp_path, folder):
    assert durable._waiting() >= 0
    stat = subprocess.run(
        ["stat", "-f", "-c", "%T", tmp_path], capture_output=True, text=True, check=True
    ).stdout
    kind = durable._kind(folder.fileno())
    assert kind[:3] == stat[:3] or not kind  # it calls ext4 ext2/ext3; btrfs cannot be told by its device


@pytest.fixture
def written_out(monkeypatch):
    """Ranges that were begun to be written out."""
    ranges = []
    monkeypatch.setattr(durable, "begin_to_write_out", lambda fd, *each: ranges.append(each))
    return ranges


@pytest.mark.parametrize("size", [7, durable._AT_ONCE + 1])
def test_a_whole_file_has_its_time_before_all_is_synced(tmp_path, written_out, monkeypatch, size):
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    os.pwrite(fd, bytes(size), 0)
    monkeypatch.setattr(Folder, "set_mtime", lambda *_: pytest.fail("set once more"))
    syncer = durable.Syncer(Folder(str(tmp_path)))
    syncer.put(fd, "file", MTIME, 0, size, whole=True)
    syncer.finish(lambda: None)
    assert (tmp_path / "file").stat().st_mtime_ns == MTIME
    assert written_out == [(0, size)]


def test_pieces_are_written_out_and_get_their_time_at_the_end(tmp_path, written_out, synced):
    syncer = durable.Syncer(Folder(str(tmp_path)))
    for offset in (0, 4096):
        fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
        os.pwrite(fd, bytes(4096), offset)
        syncer.put(fd, "file", MTIME, offset, 4096, whole=False)
    syncer.finish(lambda: None)
    assert (tmp_path / "file").stat().st_mtime_ns == MTIME
    assert written_out == [(0, 4096), (4096, 4096)]
    assert synced == [(tmp_path / "file").stat().st_ino]


def test_writing_out_is_only_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "posix_fadvise", lambda *_: pytest.fail("waits for every core"))
    (tmp_path / "file").write_bytes(bytes(4096))
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    durable.begin_to_write_out(fd, 0, 4096)
    os.close(fd)
    durable.begin_to_write_out(fd, 0, 4096)  # a hint: what is wrong, an fsync tells


def test_a_disk_that_fails_is_told_with_the_next_file(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "utime", lambda *_, **__: (_ for _ in ()).throw(OSError(5, "")))
    syncer = durable.Syncer(Folder(str(tmp_path)))
    size = durable._AT_ONCE + 1
    syncer.put(os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT), "file", MTIME, 0, size, whole=True)
    with pytest.raises(CaxflowError, match=r"/file: Input/output error -> the disk fails"):
        syncer.finish(lambda: None)
