"""What the directories of zip files say, and what their bytes show as they go by."""

import io
import random
import shutil
import subprocess
import tracemalloc
import zipfile

import pytest

from caxflow import transfer
from caxflow.files import digests
from caxflow.transfer import Contents, Place
from caxflow.transfer.zips import Archive, Checker

HERE = Place("here")
GOOD = Contents([[0, 4]])


def look(data: bytes, step: int = 7):
    """What the directory says, then what is wrong and what is odd by the bytes."""
    archive = Archive(io.BytesIO(data), len(data))
    checker = Checker(archive)
    for start in range(0, len(data), step):
        checker.update(data[start : start + step])
    return Contents(**archive.contents()), *checker.results()


def made(names=tuple("01234"), **options) -> bytes:
    """A zip file with these members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        for index, name in enumerate(names):
            archive.writestr(zipfile.ZipInfo(name, (2016, 3, 15, 14, 32, 6)), bytes([index]) * (100 + index))
    return file.getvalue()


class Pipe(io.RawIOBase):
    """What cannot be gone back in: sizes and checksums then follow the data."""

    def __init__(self):
        self.data = b""

    def writable(self):
        return True

    def write(self, data):
        self.data += bytes(data)
        return len(data)


def streamed(force_zip64=False) -> bytes:
    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:
        for name in "01234":
            with archive.open(name, "w", force_zip64=force_zip64) as member:
                member.write(b"event " + name.encode())
    return pipe.data


def large() -> bytes:
    """Members whose sizes are in extra fields, as of those of more than 4 GB."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in "01234":
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(b"event " + name.encode())
    return file.getvalue()


@pytest.mark.parametrize("data", [made(), streamed(), streamed(force_zip64=True), large()])
@pytest.mark.parametrize("step", [1, 31, 10**6])
def test_what_zip_writers_write_is_good(data, step):
    assert look(data, step) == (GOOD, [], [])


@pytest.mark.skipif(shutil.which("zip") is None, reason="no zip here")
def test_what_info_zip_writes_is_good(tmp_path):
    for name in "01234":
        (tmp_path / name).write_bytes(name.encode() * 999)
    subprocess.run(["zip", "-q", "-0", "a.zip", *"01234"], cwd=tmp_path, check=True)
    assert look((tmp_path / "a.zip").read_bytes()) == (GOOD, [], [])
    ask = ["zip", "-q", "-0", "-", *"01234"]
    piped = subprocess.run(ask, cwd=tmp_path, check=True, stdout=subprocess.PIPE).stdout
    assert look(piped) == (GOOD, [], [])


def test_a_zip_of_very_many_members_is_good():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(66_000):
            archive.writestr(str(number), b"")
    assert look(file.getvalue(), 1 << 20) == (Contents([[0, 65_999]]), [], [])


def test_members_beyond_2_gb_are_good(tmp_path):
    with (tmp_path / "a.zip").open("w+b") as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("0", b"first")
            # A hole in the place of most of the data; the member that is behind it is a real one.
            file.seek(archive.start_dir + (1 << 31))
            archive.start_dir = file.tell()
            archive.writestr("1", b"second")
        size = file.tell()
        archive = Archive(file, size)
        assert [member.extract_version for member in archive.members] == [20, 45]
        checker, at = Checker(archive), 0
        file.seek(0)
        while data := file.read(1 << 24):
            checker.update(data)
            at += len(data)
    assert (at, archive.faults, archive.contents()["numbers"]) == (size, [], [[0, 1]])
    faults, gaps = checker.results()
    assert faults == []
    assert gaps == [f"has {1 << 31} bytes after member 0 that belong to none"]


def test_what_unpacks_to_more_than_it_says_takes_no_memory():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0", bytes(200 << 20))
    data = bytearray(file.getvalue())
    for record, at in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        begin = data.index(record) + at
        data[begin : begin + 4] = (100).to_bytes(4, "little")
    tracemalloc.start()
    try:
        _, faults, _ = look(bytes(data), 1 << 20)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert faults == ["member 0 does not have its checksum (CRC)"]
    assert most < 20 << 20


def test_each_flipped_byte_is_found():
    data, found = made(), []
    directory = data.index(b"PK\1\2")
    for at in range(len(data)):
        spoilt = bytearray(data)
        spoilt[at] ^= 0x10
        contents, faults, oddities = look(bytes(spoilt), 64)
        if contents == GOOD and not faults and not oddities:
            found.append(at)
    record = 46 + 1
    # Of a directory's record: by which program, attributes; of the last one, lengths that go beyond its end.
    harmless = {at for at in found if at >= directory and (at - directory) % record in {4, 5, *range(36, 42)}}
    last = directory + 4 * record
    assert set(found) - harmless <= set(range(last + 28, last + 34))


def test_damage_is_named_by_its_member():
    data = bytearray(made())
    data[data.index(b"\3" * 50)] ^= 1
    assert look(bytes(data))[1] == ["member 3 does not have its checksum (CRC)"]
    data = bytearray(made())
    data[data.index(b"PK\3\4", 200) + 26] ^= 4  # the length of its name
    (fault,) = look(bytes(data))[1]
    assert fault.startswith("member 2 has a ")
    data = bytearray(made([str(number) for number in range(9)]))
    for number in range(9):
        data[data.index(bytes([number]) * 50)] ^= 0x80
    faults = look(bytes(data))[1]
    assert len(faults) == 6
    assert faults[-1] == "and 4 more members like the last one"


def test_compressed_members_are_odd_and_checked():
    data = made(compression=zipfile.ZIP_STORED)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in "01234":
            archive.writestr(name, random.Random(name).randbytes(99) * 20_000)
    data = file.getvalue()
    contents, faults, oddities = look(data, 1000)
    assert contents == Contents([[0, 4]], oddities=["has compressed members, as 0"])
    assert not faults
    assert not oddities
    spoilt = bytearray(data)
    spoilt[data.index(b"PK\3\4", 100) + 60] ^= 1
    assert look(bytes(spoilt), 1000)[1] == ["member 1 does not have its checksum (CRC)"]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("0", b"1")
    assert look(file.getvalue())[0].faults == ["member 0 is compressed by the unknown method 12"]


def test_encrypted_members_are_named():
    data = bytearray(made())
    at = data.index(b"PK\1\2")
    data[at + 8] |= 1
    assert look(bytes(data))[0].faults == ["member 0 is encrypted"]


@pytest.mark.parametrize(
    ("names", "numbers", "others"),
    [
        (["0", "0", "2", "3"], [[0, 0], [0, 0], [2, 3]], []),
        (["0", "1", "2", "99"], [[0, 2], [99, 99]], []),
        (["3", "1", "2", "0"], [[0, 3]], []),
        (
            ["0", "01", "+1", " 2", "\u0663", "1.0", ""],
            [[0, 0]],
            ["'01'", "'+1'", "' 2'", "'\\u0663'", "'1.0'"],
        ),
        (["0", "1" * 13], [[0, 0]], ["'1111111111111'"]),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_are_named_not_counted(names, numbers, others):
    contents, _, _ = look(made(names))
    assert contents.numbers == numbers
    assert contents.others == others


@pytest.mark.parametrize("name", ["0/", "/0", "../0", "a/b", "a\\b", ""])
def test_members_that_would_be_paths_are_faults(name):
    (fault,) = look(made(["0", name, "1"]))[0].faults
    assert fault == f"member {name!r} would be a path"


def test_what_is_in_a_zip_beside_its_members_is_odd():
    data = made()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.comment = b"by hand"
        archive.writestr("0", b"1")
    assert look(file.getvalue())[0].oddities == ["has a comment of 7 bytes"]
    assert look(data + b"tail")[0] == Contents([[0, 4]], oddities=["has bytes after its end"])
    assert look(b"#!/bin/sh\n" + data)[0] == Contents(
        [[0, 4]], oddities=["has 10 bytes before its first member"]
    )
    # One that was taken out of the directory alone.
    file = io.BytesIO(data)
    with zipfile.ZipFile(file, "a") as archive:
        del archive.filelist[2]
        archive._didModify = True
    contents, faults, oddities = look(file.getvalue())
    assert contents.numbers == [[0, 1], [3, 4]]
    assert not faults
    assert oddities == ["has 133 bytes after member 1 that belong to none"]


def test_members_that_share_bytes_are_faults():
    data = made(["0", "1"])
    at = data.index(b"PK\1\2")
    second = bytearray(data[at:])
    record = second.index(b"PK\1\2", 4)
    second[record + 42 : record + 46] = b"\0\0\0\0"
    assert look(data[:at] + bytes(second))[0].faults == ["member 0 overlaps what follows"]


@pytest.mark.parametrize("data", [b"", b"PK", b"no zip" * 99, made()[:-30], made()[100:], bytes(5000)])
def test_what_is_no_zip_is_said_to_be_none(data):
    assert look(data)[0].faults


def test_damage_never_ends_in_another_error():
    chance = random.Random(7)
    kinds = [made(), streamed(), large(), made()[:-30] + made()]
    for _ in range(3000):
        data = bytearray(chance.choice(kinds))
        for _ in range(chance.randint(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        data = data[: chance.randrange(len(data))] if chance.random() < 0.3 else data
        contents, faults, oddities = look(bytes(data), chance.choice([1, 7, 1000]))
        assert all(isinstance(each, str) for each in [*contents.faults, *faults, *oddities])


def test_examining_reads_once_and_finds_what_is_wrong(tmp_path):
    (tmp_path / "good.zip").write_bytes(made())
    spoilt = bytearray(made())
    spoilt[60] ^= 1
    (tmp_path / "bad.zip").write_bytes(spoilt)
    (tmp_path / "empty.zip").touch()
    (tmp_path / "pax_info.json").write_text("{}")
    found = transfer.examine(HERE, tmp_path, algorithms=("xxh128", "sha512"))
    assert found.faults == ["bad.zip member 0 does not have its checksum (CRC)"]
    assert found.oddities == []
    assert list(found.manifests) == ["xxh128", "sha512"]
    assert found.manifests["xxh128"] == transfer.take_manifest(HERE, tmp_path)
    sums = {entry.path: entry.digest for entry in found.manifests["sha512"].entries}
    assert digests.cax_sha512(tmp_path) in digests.cax_sums(sums)
