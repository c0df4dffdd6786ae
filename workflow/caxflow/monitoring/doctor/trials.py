"""Tries in a folder what odd file systems refuse, and what the Python that runs it lacks.

A program on its own: it is sent to far ends, too, so it needs only Python 3.8 and the standard library. What
it finds is a list: what does not work, what is lost by that, and whether copies fail by it.
"""

# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH110, PTH112, PTH116, PTH118, PTH123, PTH208, S110, T201, UP031
# (this also runs under Python 3.8, and prints)

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import tempfile
import time

LOCKS = "locking a file"
SLOW = 1.0  # s that a sync may take
_TAKES, _WAIT = "takes ", "copies wait for it"
_WHEN = 1458052321123456789  # ns; a time that is neither whole nor even seconds
_NOREPLACE = 1  # RENAME_NOREPLACE, linux/fs.h


def refuses(folder: str, lacking: dict) -> list:
    """Try everything in a new folder below `folder`, which is removed again.

    Parameters
    ----------
    folder : str
    lacking : dict
        Of each ability of `caxflow.abilities`, the error numbers that mean that it is lacking; any other one
        is a failure.

    Returns
    -------
    list of (str, str, bool)
        What does not work, what is lost by that, and whether copies fail.

    Raises
    ------
    OSError
        If nothing can be written there at all.
    """
    trial = tempfile.mkdtemp(prefix=".caxflow-doctor-", dir=folder)
    handle = os.open(trial, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not _is_ours(handle):
            raise OSError(errno.EPERM, "a folder of another account came into the place of a new one")
        # By its descriptor, so that it is this folder whatever others put in the place of its name.
        inside = "/proc/self/fd/%d" % handle
        inside = inside if os.path.isdir(inside) else trial
        for name in ("a", "b"):
            os.mkdir(os.path.join(inside, name))
        _write(os.path.join(inside, "a", "file"))
        os.rename(os.path.join(inside, "a", "file"), os.path.join(inside, "file"))
        found = list(_refused(inside, lacking))
    finally:
        _remove(trial, handle)
    if os.path.lexists(trial):
        found.append((trial + " cannot be removed", "it takes no space to speak of", False))
    return found


def _is_ours(handle: int) -> bool:
    """Return whether an open folder has the owner that a new file in it gets."""
    made = os.open("probe", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=handle)
    try:
        return os.fstat(made).st_uid == os.fstat(handle).st_uid
    finally:
        os.close(made)
        os.unlink("probe", dir_fd=handle)


def _remove(trial: str, handle: int) -> None:
    """Remove a folder that is open, with two levels of files, as far as that goes."""
    for above in ("b", "a", "open", "."):
        with contextlib.suppress(OSError):
            folder = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
            for name in os.listdir(folder):
                with contextlib.suppress(OSError):
                    remove = os.rmdir if above == "." and name in ("a", "b", "open") else os.unlink
                    remove(name, dir_fd=folder)
            os.close(folder)
    os.close(handle)
    with contextlib.suppress(OSError):
        os.rmdir(trial)


def _refused(trial: str, lacking: dict):
    """Yield what does not work and why, what is lost, and whether copies fail; nothing where nothing is."""
    exclusive = _renames_exclusively(trial)
    race = "two jobs that publish one file at the same moment may replace each other's"
    cut = "a marker of a root that is cut off while it is written may be damaged"
    full = "a full disk shows only while it is written to"
    crash = "a crash of its machine may damage copies that were called whole"
    stays = "its folder stays until it is closed, and removed again"
    more = "copies that go on ask for more space than they need"
    for what, attempt, ability, lost in (
        ("syncing a file", _sync_file, "SYNC_FILES", crash),
        (
            "syncing a folder",
            _sync_folder,
            "SYNC_FOLDERS",
            "a new copy may be gone after a crash of its machine",
        ),
        ("a second name for a file", _link, "LINKS", cut if exclusive else race),
        ("a second name for a file in another folder", _link_across, "LINKS", "" if exclusive else race),
        ("setting modes", _modes, "MODES", "permissions of the site's file are not given"),
        ("setting times", _times, "TIMES", "copies have the times at which they were made"),
        ("making a file longer in advance", _longer, "SIZES", full),
        ("how many blocks a file takes", _blocks, "", more),
        ("free space", _space, "SPACE", full),
        ("removing an open file", _open_and_removed, "", stays),
        (LOCKS, _locks, "LOCKS", "two that write there at the same time are not kept apart"),
    ):
        try:
            why, number = attempt(trial) or "", 0
        except OSError as error:
            why, number = "is refused (" + (error.strerror or _first(error)) + ")", error.errno
        if attempt is _link and exclusive:
            number = 0  # there is another way
        if number and number not in lacking.get(ability, ()):
            yield what + " " + why, "copies there fail", True
        elif why and lost:
            yield what + " " + why, _WAIT if why.startswith(_TAKES) else lost, False


def lacks() -> list:
    """Return what this Python has not, and what is lost by that, in pairs."""
    found = []
    for name, lost in (
        ("ctypes", "renaming that never replaces and quick syncs are done in other ways"),
        ("zlib", "no program of ours can be sent there"),
        ("fcntl", "two transfers to one place are not kept apart"),
        ("_posixsubprocess", "it can start no other program"),
    ):
        try:
            __import__(name)
        except Exception as error:  # whatever a PYTHONPATH leads to
            found.append(("no " + name + " (" + _first(error) + ")", lost))
    if not _has_xxhash():
        found.append(("no xxhash", "both ends use sha256, which is slower"))
    try:
        import hashlib

        for name in ("sha256", "sha512"):
            getattr(hashlib, name)()
    except Exception as error:  # such as of a policy
        found.append(("no " + name + " (" + _first(error) + ")", "digests of that kind cannot be compared"))
    try:
        import threading

        threads = [threading.Thread(target=time.sleep, args=(0.01,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except Exception as error:
        found.append(("it starts no 8 threads (" + _first(error) + ")", "copies are slower, or fail"))
    return found


def main(lacking: dict, roots: list) -> None:
    """Print as JSON what this Python is, what it lacks, and what is refused in folders."""
    there = {}
    for root in roots:
        try:
            there[root] = refuses(root, lacking)
        except OSError as error:
            why = error.strerror or _first(error)
            there[root] = [("it cannot be written (" + why + ")", "nothing can be copied there", True)]
    version = ".".join(map(str, sys.version_info[:3]))
    found = {"python": version, "program": sys.executable, "lacks": lacks(), "refuses": there}
    print(json.dumps(dict(found, time=time.time())), flush=True)


def _first(error) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:100]


def _write(path: str) -> None:
    with open(path, "wb") as file:
        file.write(b"a trial\n" * 8192)


def _sync(path: str, flags: int):
    handle = os.open(path, flags)
    try:
        began = time.monotonic()
        os.fsync(handle)
        took = time.monotonic() - began
    finally:
        os.close(handle)
    return _TAKES + "%.0f s" % took if took > SLOW else ""


def _sync_file(trial: str):
    return _sync(os.path.join(trial, "file"), os.O_RDWR)


def _sync_folder(trial: str):
    return _sync(trial, os.O_RDONLY | os.O_DIRECTORY)


def _link(trial: str) -> None:
    os.link(os.path.join(trial, "file"), os.path.join(trial, "second"))


def _link_across(trial: str) -> None:
    if os.path.lexists(os.path.join(trial, "second")):  # without any links nothing more is to say
        os.link(os.path.join(trial, "file"), os.path.join(trial, "b", "third"))


def _renames_exclusively(trial: str) -> bool:
    try:
        import ctypes

        call = ctypes.CDLL(None, use_errno=True).renameat2
    except Exception:  # whatever a Python lacks for it
        return False
    old, new = (os.fsencode(os.path.join(trial, "a", name)) for name in ("one", "two"))
    _write(old)
    done = call(-100, ctypes.c_char_p(old), -100, ctypes.c_char_p(new), ctypes.c_uint(_NOREPLACE)) == 0
    return done and os.path.exists(new)


def _modes(trial: str) -> str:
    path = os.path.join(trial, "file")
    for mode in (0o640, 0o604):
        os.chmod(path, mode)
        if os.stat(path).st_mode & 0o777 != mode:
            return "is ignored"
    return ""


def _times(trial: str) -> str:
    path = os.path.join(trial, "file")
    os.utime(path, ns=(_WHEN, _WHEN))
    off = abs(os.stat(path).st_mtime_ns - _WHEN)
    return "is ignored" if off > 3 * 10**9 else ""


def _longer(trial: str) -> None:
    os.truncate(os.path.join(trial, "file"), 1 << 20)


def _blocks(trial: str) -> str:
    return "" if os.stat(os.path.join(trial, "file")).st_blocks else "is not told"


def _space(trial: str) -> str:
    return "" if os.statvfs(trial).f_blocks else "is not told"


def _open_and_removed(trial: str) -> str:
    folder = os.path.join(trial, "open")
    os.mkdir(folder)
    path = os.path.join(folder, "file")
    _write(path)
    with open(path, "rb"):
        os.unlink(path)
        left = os.listdir(folder)
        with contextlib.suppress(OSError):
            os.rmdir(folder)
    return "leaves " + left[0] if left else ""


def _locks(trial: str) -> str:
    try:
        import fcntl
    except ImportError as error:
        return "is not possible: " + _first(error)
    path = os.path.join(trial, "b", "lock")
    handles = [os.open(path, os.O_RDWR | os.O_CREAT, 0o600) for _ in range(2)]
    try:
        try:
            fcntl.flock(handles[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return "is refused (" + error.strerror + ")"
        try:
            fcntl.flock(handles[1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return ""
        return "locks nothing out"
    finally:
        for handle in handles:
            os.close(handle)


def _has_xxhash() -> bool:
    try:
        import xxhash

        return xxhash.xxh3_128(b"").hexdigest() == "99aa06d3014798d86001c324468d497f"
    except Exception:  # not there, or not for this Python
        pass
    try:
        import ctypes

        return hasattr(ctypes.CDLL("libxxhash.so.0"), "XXH3_128bits")
    except Exception:
        return False


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2:])
