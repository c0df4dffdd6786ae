import hashlib
import os
import subprocess
import sys
import tempfile
import zlib

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

import needs
from caxflow.files import digests, libxxhash, manifest


@given(st.lists(st.binary(max_size=3000), max_size=5))
def test_system_library_agrees_with_the_package(parts):
    if libxxhash.load() is None:
        needs.missing("there is no libxxhash", "apt-get install libxxhash0")
    system, package = libxxhash.Xxh128(), xxhash.xxh3_128()
    for part in parts:
        system.update(part)
        system.update(memoryview(bytearray(part)))
        package.update(part)
        package.update(part)
    assert system.hexdigest() == package.hexdigest()
    assert system.digest() == package.digest()


def test_openssl_is_loaded_only_for_its_digests():
    """The far end's helper starts for every connection."""
    code = (
        "import sys; from caxflow.files import digests; print(digests.available(), 'hashlib' in sys.modules);"
        "digests.hasher('sha256'); print('hashlib' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert said == f"{digests.ALGORITHMS} False\nTrue\n"


def test_all_digests_in_one_pass(tmp_path):
    content = os.urandom(3 * digests.BUFFER + 17)
    file = tmp_path / "file"
    file.write_bytes(content)
    assert digests.hash_file(file, digests.ALGORITHMS) == {
        "xxh128": xxhash.xxh3_128_hexdigest(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "sha512": hashlib.sha512(content).hexdigest(),
        "adler32": f"{zlib.adler32(content):08x}",
    }


def test_ranges_and_progress(tmp_path):
    content = os.urandom(5000)
    file = tmp_path / "file"
    file.write_bytes(content)
    seen = []
    fd = os.open(file, os.O_RDONLY)
    try:
        found, size = digests.hash_fd(fd, ("sha256",), 100, 4000, seen.append)
        beyond = digests.hash_fd(fd, ("sha256",), 4900, 4000)
    finally:
        os.close(fd)
    assert (found["sha256"], size) == (hashlib.sha256(content[100:4100]).hexdigest(), 4000)
    assert beyond == ({"sha256": hashlib.sha256(content[4900:]).hexdigest()}, 100)
    assert sum(seen) == 4000


def test_a_package_of_another_python_in_the_way_does_not_matter(monkeypatch, tmp_path):
    (tmp_path / "xxhash.py").write_text("print 'written for Python 2'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "xxhash", raising=False)
    digests._maker.cache_clear()
    try:
        assert "sha256" in digests.available()
        assert digests._maker("xxh128") in (None, libxxhash.Xxh128)
    finally:
        digests._maker.cache_clear()


def test_unknown_digest_is_refused():
    with pytest.raises(ValueError, match="md5"):
        digests.hasher("md5")


def test_dropped_pages_are_gone(tmp_path, require):
    """Dirty pages are written out first, else they would stay."""
    fincore = require("fincore")
    # What is in memory only cannot be dropped: /tmp may be, /var/tmp outlives a reboot.
    folders = [folder for folder in (str(tmp_path), "/var/tmp") if not _is_memory(folder)]
    if not folders:
        needs.missing("all temporary directories are in memory", "set TMPDIR to a folder on a disk")
    with tempfile.NamedTemporaryFile(dir=folders[0], buffering=0) as file:
        file.write(os.urandom(1 << 20))
        digests.drop_cache(file.fileno())
        ask = [fincore, "-nbo", "res", file.name]
        pages = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
    assert int(pages) == 0


def _is_memory(path) -> bool:
    kind = subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=True)
    return kind.stdout.strip() in ("tmpfs", "ramfs")


def test_cax_checksum_is_that_of_checksumdir(tmp_path):
    # Figure from checksumdir 1.3.0: dirhash(directory, "sha512").
    (tmp_path / "sub" / "empty").mkdir(parents=True)
    (tmp_path / "b.zip").write_bytes(b"second")
    (tmp_path / "a.zip").write_bytes(b"first")
    (tmp_path / "sub" / ".hidden").write_bytes(b"third")
    (tmp_path / "none").touch()
    assert digests.cax_sha512(tmp_path) == CHECKSUMDIR
    (tmp_path / "a.zip").rename(tmp_path / "c")
    (tmp_path / "b.zip").rename(tmp_path / "a.zip")
    assert digests.cax_sha512(tmp_path) == CHECKSUMDIR, "it cannot tell exchanged files"
    assert digests.cax_sha512(tmp_path / "c") == hashlib.sha512(b"first").hexdigest()


CHECKSUMDIR = (
    "33d595e00813f5a06929dfea91d212144cd4438fcb27ec1e224391eaa37d02c2"
    "f35131013ae7c879fa4cf7b75b4e5d5b9e5757e117ae0fef8b0fb929d14f0fb3"
)

# Figures from checksumdir: 1.0.5 (of March 2015), then 1.1.4 and 1.3.0, which agree; their first digits.
CHECKSUMS = [
    ({"a.zip": "first", "b.zip": "second"}, "37d17b9146b1849c", "37d17b9146b1849c"),
    ({"a.zip": "first", "b.zip": "second", ".DS_Store": "mac"}, "37d17b9146b1849c", "685dc72423c4ba83"),
    (
        {"a.zip": "first", ".d/x": "1", ".d/e/y": "2", "e/.z": "3", "e/w": "4", "empty": None},
        "73a745636a42172f",
        "b90192a2e7ce9274",
    ),
    ({"a": "", "b": "", "c..d": "5", "..f": "6"}, "771c43831b08589f", "6acb70fa24b63577"),
]


@pytest.mark.parametrize(("files", "old", "new"), CHECKSUMS)
def test_cax_checksums_of_all_times_are_known(tmp_path, files, old, new):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            (tmp_path / name).mkdir()
        else:
            (tmp_path / name).write_text(content)
    taken = manifest.take(str(tmp_path), "sha512")
    sums = digests.cax_sums({entry.path: entry.digest for entry in taken.entries})
    assert {each[:16] for each in sums} == {old, new}
    assert digests.cax_sha512(tmp_path)[:16] == new


def test_a_checksum_of_nothing_says_nothing():
    assert digests.cax_sums({}) == set()
    assert len(digests.cax_sums({".hidden": "00"})) == 1
