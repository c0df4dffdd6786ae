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


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
def test_without_locks_of_the_file_system_one_of_this_machine_holds_it(tmp_path, monkeypatch, capsys, number):
    """Lustre without ``flock``, NFS without its lock daemon."""

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    handle = lock.take(tmp_path / "lock", taken)
    assert (
        f"its file system has no locks ({os.strerror(number)}): work there from one"
        in capsys.readouterr().err
    )
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(
        CaxflowError, match="it is held by {user}@{host}, process {pid}$".format(**receipts.who())
    ):
        lock.take(tmp_path / "link/lock", taken)
    os.close(lock.take(tmp_path / "other", taken))
    os.close(handle)
    os.close(lock.take(tmp_path / "lock", taken))


def test_a_lock_that_fails_is_no_other_process(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(CaxflowError, match="lock cannot be locked: Input/output error -> have"):
        lock.take(tmp_path / "lock", taken)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CaxflowError, match=r"file/lock cannot be made: .* -> mend the work directory"):
        lock.take(tmp_path / "file" / "lock", taken)
