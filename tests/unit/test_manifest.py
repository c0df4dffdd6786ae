import json
import os
import shutil
import socket
import string
import subprocess

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from caxflow.errors import CaxflowError
from caxflow.files.listing import safe_path, to_bytes, to_text
from caxflow.files.manifest import Entry, Manifest, take, take_all
from caxflow.files.reading import scan

names = st.binary(min_size=1, max_size=40).map(lambda b: to_text(b.replace(b"\0", b"x").replace(b"/", b"_")))
components = names.filter(lambda name: name not in (".", ".."))
paths = st.lists(components, min_size=1, max_size=3).map("/".join)
hashes = st.text("0123456789abcdef", min_size=32, max_size=32)
entries = st.builds(Entry, paths, st.integers(0, 1 << 50), hashes)
manifests = st.lists(entries, max_size=8, unique_by=lambda entry: entry.path).map(
    lambda each: Manifest("xxh128", tuple(each))
)


@given(manifests)
def test_json_and_back(manifest):
    text = json.dumps(manifest.to_json(), ensure_ascii=False)
    text.encode("utf-8")  # BSON would refuse surrogates
    assert Manifest.from_json(json.loads(text)) == manifest


@given(manifests)
def test_order_does_not_matter(manifest):
    assert Manifest("xxh128", manifest.entries[::-1]) == manifest
    assert list(manifest.entries) == sorted(manifest.entries, key=lambda entry: to_bytes(entry.path))


@given(manifests, st.data())
def test_every_change_is_found(manifest, data):
    if not len(manifest):
        return
    entry = data.draw(st.sampled_from(manifest.entries))
    others = tuple(each for each in manifest.entries if each is not entry)
    flipped = Entry(entry.path, entry.size, ("0" if entry.digest[0] != "0" else "1") + entry.digest[1:])
    changed = {
        "missing": others,
        "changed": (*others, flipped),
        "extra": (*manifest.entries, Entry(entry.path + "+", 1, entry.digest)),
    }
    for kind, files in changed.items():
        if kind == "extra" and any(each.path == entry.path + "+" for each in others):
            continue
        other = Manifest("xxh128", files)
        assert manifest.digest != other.digest
        found = manifest.differences(other)
        assert [difference.kind for difference in found] in ([kind], ["swapped"])
        assert manifest.differences(manifest) == []


@given(manifests)
def test_sums_and_back(manifest):
    if any("\n" in entry.path or entry.path.endswith("\r") for entry in manifest.entries):
        with pytest.raises(CaxflowError, match="line break"):
            manifest.to_sums()
        return
    sizes = {entry.path: entry.size for entry in manifest.entries}
    assert Manifest.from_sums(manifest.to_sums(), sizes) == manifest
    assert manifest.differences(Manifest.from_sums(manifest.to_sums())) == []


def dataset(tmp_path, **files):
    folder = tmp_path / "data"
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def test_exchanged_files_are_named(tmp_path):
    before = take(dataset(tmp_path, a=b"one", b=b"two", c=b"three"))
    after = take(dataset(tmp_path, a=b"two", b=b"one", c=b"three"))
    found = before.differences(after)
    assert [(each.kind, each.path) for each in found] == [("swapped", "a"), ("swapped", "b")]
    assert str(found[0]) == "a and b have each other's contents"


def test_sentences(tmp_path):
    before = take(dataset(tmp_path, a=b"one", b=b"two", c=b"three"))
    (tmp_path / "data" / "c").unlink()
    after = take(dataset(tmp_path, a=b"one!", b=b"twO", e=b"five"))
    assert list(map(str, before.differences(after))) == [
        "a has 4 bytes instead of 3",
        "b has the right size but other contents",
        "c is missing",
        "e is extra",
    ]


@pytest.mark.parametrize("algorithm", ["xxh128", "sha256"])
def test_other_programs_accept_the_sums(tmp_path, require, algorithm):
    """Also with names at which parsers stumble."""
    program = require({"xxh128": "xxhsum", "sha256": "sha256sum"}[algorithm])
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    odd = [b" lead", b"trail ", b"#hash", b"-dash", b"*star", b"(paren) = x", b"\xff\xfe", b"c\rr", b"a  b"]
    for name in [*odd, b"sub/plain", b"back\\slash", "größe".encode()]:
        (folder / to_text(name)).write_bytes(name)
    sums = tmp_path / "sums"
    sums.write_bytes(to_bytes(take(folder, algorithm).to_sums()))
    check = subprocess.run([program, "-c", sums], cwd=folder, capture_output=True, check=False)
    assert check.returncode == 0, check
    assert check.stdout.count(b"OK") == len(odd) + 3
    (folder / "sub" / "plain").write_bytes(b"sub/plaiN")
    assert subprocess.run([program, "-c", sums], cwd=folder, capture_output=True, check=False).returncode != 0


def test_digest_is_over_the_documented_records():
    manifest = Manifest("xxh128", (Entry("b", 2, "f" * 32), Entry("a", 1, "e" * 32)))
    records = f"{'e' * 32} 1 a\0{'f' * 32} 2 b\0".encode()
    assert manifest.digest == f"xxh128:{xxhash.xxh3_128_hexdigest(records)}"
    assert (manifest.size, len(manifest)) == (3, 2)


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "..",
        "/etc/passwd",
        "a/../../b",
        "a//b",
        "a/",
        "./a",
        "a\0b",
        "x" * 256,
        "d/" * 2500 + "f",
        7,
        None,
    ],
)
def test_paths_that_lead_elsewhere_are_refused(path):
    with pytest.raises(CaxflowError, match="may not be used"):
        safe_path(path)


@given(st.text(string.printable, max_size=20))
def test_safe_paths_stay_inside(path):
    try:
        safe_path(path)
    except CaxflowError:
        return
    assert os.path.normpath(f"/root/{path}").startswith("/root/")
    assert os.path.normpath(path) == path


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"algorithm": "md5", "files": []},
        {"algorithm": "xxh128", "files": [["../x", 1, "0" * 32]]},
        {"algorithm": "xxh128", "files": [["x", -2, "0" * 32]]},
        {"algorithm": "xxh128", "files": [["x", 1.5, "0" * 32]]},
        {"algorithm": "xxh128", "files": [["x", 1, "0" * 31]]},
        {"algorithm": "xxh128", "files": [["x", 1, "g" * 32]]},
        {"algorithm": "xxh128", "files": [["x", 1, "0" * 32], ["x", 1, "0" * 32]]},
        {"algorithm": "xxh128", "files": [[{"hex": "2e2e"}, 1, "0" * 32]]},
        {"algorithm": "xxh128", "files": [["x", 1, "0" * 32]], "digest": "xxh128:" + "0" * 32},
        {"algorithm": "xxh128", "files": "x"},
        [],
    ],
)
def test_malformed_manifests_are_refused(document):
    with pytest.raises(CaxflowError):
        Manifest.from_json(document)


@pytest.mark.parametrize("text", ["x", "0123", "zz  name", "00" * 16 + " name\n", "00" * 15 + "  name\n"])
def test_malformed_sums_are_refused(text):
    with pytest.raises(CaxflowError):
        Manifest.from_sums(text)


def test_scan_lists_sorted_with_empty_ones(tmp_path):
    (tmp_path / "z" / "empty").mkdir(parents=True)
    (tmp_path / "z" / "b").write_bytes(b"xy")
    (tmp_path / "a").touch()
    listing = scan(tmp_path)
    assert [(file.path, file.size) for file in listing.files] == [("a", 0), ("z/b", 2)]
    assert listing.directories == ("z", "z/empty")
    assert (listing.size, listing.single) == (2, False)
    single = scan(tmp_path / "z" / "b")
    assert (single.single, [file.path for file in single.files]) == (True, ["b"])


def test_scan_refuses_what_is_no_file(tmp_path):
    def link(path):
        path.symlink_to("/etc/passwd")

    def loop(path):
        path.symlink_to(path)

    def listen(path):
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))

    made = {"symbolic link": (link, loop), "named pipe": (os.mkfifo,), "socket": (listen,)}
    if os.geteuid() == 0:
        made["character device"] = (lambda path: os.mknod(path, 0o20600, os.makedev(1, 3)),)
    for kind, makers in made.items():
        for number, make in enumerate(makers):
            folder = tmp_path / f"{kind[:2]}{number}"
            folder.mkdir()
            make(folder / "odd")
            with pytest.raises(CaxflowError, match=rf"odd is a {kind}"):
                scan(folder)
            shutil.rmtree(folder)


def test_missing_dataset_is_named(tmp_path):
    with pytest.raises(CaxflowError, match="absent: No such file or directory -> check that it exists"):
        take(tmp_path / "absent")


def test_take_with_several_digests(tmp_path):
    folder = dataset(tmp_path, a=b"one", b=b"")
    seen = []
    found = take_all(folder, ("xxh128", "sha256", "adler32"), drop_cache=True, progress=seen.append)
    assert found["xxh128"].entries[0] == Entry("a", 3, xxhash.xxh3_128_hexdigest(b"one"))
    assert found["adler32"].entries[1] == Entry("b", 0, "00000001")
    assert sum(seen) == 3


def test_change_while_it_is_read_is_found(tmp_path):
    folder = dataset(tmp_path, a=os.urandom(1 << 20), b=b"y")

    def meddle(_):
        with (folder / "a").open("ab") as file:
            file.write(b"x")

    with pytest.raises(CaxflowError, match="changed while it was read"):
        take(folder, progress=meddle)

    def remove(_):
        (folder / "b").unlink(missing_ok=True)

    with pytest.raises(CaxflowError, match=r"changed while it was read|No such file"):
        take(folder, progress=remove, threads=1)
