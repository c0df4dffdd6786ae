"""F4, F17 and their kind: what a Python lacks is done without; what ends a thread ends its transfer."""

import os
import re
import sys
import threading
import time

import pytest

from caxflow.errors import CaxflowError
from caxflow.files.manifest import take
from caxflow.transfer import Place, copy, exists, take_manifest
from lab import pythons

HERE = Place("here")
LONG = 100  # s; no test waits for it


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Files that are written by a thread, and small ones."""
    folder = tmp_path_factory.mktemp("source") / "dataset"
    (folder / "sub").mkdir(parents=True)
    for number in range(24):
        (folder / f"{number}.zip").write_bytes(os.urandom((1 << 20) + 1))
    (folder / "sub/small").write_bytes(b"small")
    return folder


ODD = {
    "no ctypes": lambda folder: pythons.without(folder, "_ctypes", "ctypes"),
    "no ctypes, no xxhash": lambda folder: pythons.without(folder, "_ctypes", "ctypes", "xxhash"),
    "no OpenSSL": lambda folder: pythons.without(folder, "_hashlib", "_blake2", "_ssl", "xxhash"),
    "no processes": lambda folder: pythons.without(
        folder, "_posixshmem", "_multiprocessing", "multiprocessing"
    ),
    "no queue, no futures": lambda folder: pythons.without(folder, "_queue", "concurrent.futures"),
    "no threads": pythons.without_threads,
    "little memory": lambda folder: pythons.limited(folder, "-v 40000"),
}


@pytest.mark.parametrize("odd", ODD)
def test_a_far_python_may_lack_what_is_optional(tmp_path, dataset, far, odd):
    place = far(python=ODD[odd](tmp_path), timeout=LONG)
    pushed = copy(HERE, dataset, place, tmp_path / "there")
    assert pushed.remarks == ()
    pulled = copy(place, tmp_path / "there", HERE, tmp_path / "here")
    assert take(tmp_path / "there") == take(tmp_path / "here") == take(dataset)
    assert (
        pulled.manifest
        == pushed.manifest
        == take_manifest(place, tmp_path / "here", algorithm=pushed.manifest.algorithm)
    )


def test_a_far_python_without_memory_is_named(tmp_path, dataset, far):
    with pytest.raises(
        CaxflowError, match=r"may have too little memory, .* -> raise the account's limits there"
    ):
        copy(HERE, dataset, far(python=pythons.limited(tmp_path, "-v 13000")), tmp_path / "there")


@pytest.mark.parametrize("setting", ["PYTHONHOME=/absent", "PYTHONIOENCODING=absent"])
def test_a_far_python_that_does_not_start_is_not_said_to_lack_memory(tmp_path, far, setting):
    program = tmp_path / "misled"
    program.write_text(f'#!/bin/sh\n{setting} exec {sys.executable} "$@"\n')
    program.chmod(0o755)
    with pytest.raises(CaxflowError, match=r"misled at far does not start: .*encod.* -> correct PYTHON"):
        exists(far(python=str(program)), tmp_path)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("MemoryError()", r"far: no more memory can be had"),
        ('RuntimeError("can\'t start new thread")', r"far: no more threads can be had"),
        ("KeyError('odd')", r"far: the helper failed: KeyError\('odd'\) -> please report this"),
        ("OSError(5, 'Input/output error')", r"far: .*/\d+\.zip: Input/output error"),
    ],
)
def test_a_thread_of_the_far_end_that_dies_ends_the_transfer_at_once(tmp_path, dataset, far, error, said):
    place = far(python=pythons.failing_at(tmp_path, "os.utime", error), timeout=LONG, connections=1)
    began = time.monotonic()
    with pytest.raises(CaxflowError, match=said):
        copy(HERE, dataset, place, tmp_path / "there")
    assert time.monotonic() - began < LONG / 2


def test_a_thread_here_that_dies_ends_the_transfer_at_once(tmp_path, dataset, far, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(os, "utime", fail)
    began = time.monotonic()
    with pytest.raises(CaxflowError, match=r"^no more memory can be had.* -> raise that limit"):
        copy(far(timeout=LONG, connections=1), dataset, HERE, tmp_path / "here")
    assert time.monotonic() - began < LONG / 2


@pytest.mark.parametrize("allowed", [0, 1, 2, 3, 4, 6, 8, 10, 14, 18])
def test_where_threads_are_lacking_here_that_is_said_or_done_without(
    tmp_path, dataset, far, monkeypatch, allowed
):
    """Wherever a thread cannot be started, within a push over several connections."""
    start, begun = threading.Thread.start, []

    def few(self):
        begun.append(self)
        if len(begun) > allowed:
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", few)
    began, failed = time.monotonic(), None
    try:
        copy(HERE, dataset, far(timeout=LONG, connections=3), tmp_path / "there")
    except CaxflowError as error:
        failed = str(error)
    assert failed is None or re.match(r"(far: )?no more threads can be had", failed)
    assert (tmp_path / "there").exists() == (failed is None)
    assert failed is not None or take(tmp_path / "there") == take(dataset)
    assert time.monotonic() - began < LONG / 2


def test_without_locks_a_copy_is_made(tmp_path, dataset, far):
    """Lustre without ``flock``, NFS without its lock daemon."""
    place = far(
        python=pythons.failing_at(tmp_path, "fcntl.flock", "OSError(37, 'No locks available')"), connections=1
    )
    copied = copy(HERE, dataset, place, tmp_path / "there")
    assert copied.remarks == ("its file system has no locks (No locks available)",)
