"""A lock that ends with its process, and what stands in its way in words."""

import errno
import fcntl
import os

import pytest

from caxflow import receipts
from caxflow.errors import CaxflowError
from caxflow.workdir import lock


def taken(owner):
    return CaxflowError(f"it is held by {owner}")


def test_one_holds_it_until_it_is_closed(tmp_path):
    path = tmp_path / ".caxflow/lock"
    handle = lock.take(path, taken)
    words = "it is held by {user}@{host}, process {pid}$".format(**receipts.who())
    with pytest.raises(CaxflowError, match=words):
        lock.take(path, taken)
    os.close(handle)
    os.close(lock.take(path, taken))


def test_a_file_system_without_locks_is_no_other_process(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(
        CaxflowError, match="lock cannot be locked: No locks available -> have its file system"
    ):
        lock.take(tmp_path / "lock", taken)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CaxflowError, match=r"file/lock cannot be made: .* -> mend the work directory"):
        lock.take(tmp_path / "file" / "lock", taken)
