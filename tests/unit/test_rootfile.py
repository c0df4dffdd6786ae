import lzma
import zlib

import awkward as ak
import cramjam
import numpy as np
import pytest
import uproot

from caxflow.errors import CaxflowError
from caxflow.files import rootfile
from caxflow.files.rootfile import check_root, read_metadata
from caxflow.mini import process_run
from caxflow.simulate import run_document, simulate_run
from caxflow.targets import Run
from within import within

NAME = "160315_1432"
EVENTS = 30


@pytest.fixture(scope="module")
def processed(tmp_path_factory):
    directory = tmp_path_factory.mktemp("processed")
    simulate_run(directory / NAME, NAME, number=7, events=EVENTS, seed=2)
    output = directory / f"{NAME}.root"
    document = run_document(NAME, number=7, events=EVENTS)
    process_run(directory / NAME, output, settings=document, run=Run(NAME), cores=1)
    return output


@pytest.fixture
def copy(processed, tmp_path):
    path = tmp_path / processed.name
    path.write_bytes(processed.read_bytes())
    return path


def tree(path, numbers, name="tree", **branches):
    with uproot.recreate(path, compression=uproot.ZLIB(4)) as file:
        file.mktree(name, {"event_number": "int64"} | {key: value.dtype for key, value in branches.items()})
        file[name].extend({"event_number": np.asarray(numbers)} | branches)


def test_a_whole_file_passes(processed):
    assert check_root(processed, events_built=EVENTS, event_numbers=range(EVENTS)) == EVENTS
    assert check_root(processed) == EVENTS


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.7, 0.9, 0.95, 0.99, 0.999])
def test_a_cut_file_is_noticed(share, copy):
    content = copy.read_bytes()
    copy.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CaxflowError, match=f"{copy.name} (was cut|is damaged)"):
        check_root(copy)


def test_a_cut_file_is_noticed_even_if_its_header_is_made_to_agree(copy):
    content = bytearray(copy.read_bytes()[: int(copy.stat().st_size * 0.6)])
    content[12:16] = len(content).to_bytes(4, "big")
    copy.write_bytes(content)
    with pytest.raises(CaxflowError):
        check_root(copy)


def test_a_file_with_something_appended_is_noticed(copy):
    copy.write_bytes(copy.read_bytes() + b"x")
    with pytest.raises(CaxflowError, match="has grown"):
        check_root(copy)


def test_a_hole_of_zeros_is_noticed(copy):
    # What a crash leaves of blocks that were allocated but never written.
    content = bytearray(copy.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 512] = bytes(512)
    copy.write_bytes(content)
    with pytest.raises(CaxflowError):
        check_root(copy, events_built=EVENTS, event_numbers=range(EVENTS))


def baskets(path):
    """Place and length of every compressed basket's content."""
    with uproot.open(path) as file:
        for branch in file["tree"].itervalues(recursive=True):
            for i in range(branch.num_baskets):
                key = branch.basket_key(i)
                yield branch.name, key.fSeekKey + key.fKeylen, key.fNbytes - key.fKeylen, key.fObjlen


def test_a_flipped_bit_in_any_compressed_basket_is_noticed(copy):
    content = copy.read_bytes()
    rng = np.random.default_rng(4)
    tried = 0
    for _, start, stored, unpacked in list(baskets(copy)):
        if stored == unpacked:
            continue  # ROOT stores what does not shrink as it is, without a checksum
        at = start + 9 + int(rng.integers(stored - 9))  # behind ROOT's header of nine bytes
        damaged = bytearray(content)
        damaged[at] ^= 1 << int(rng.integers(8))
        copy.write_bytes(damaged)
        with pytest.raises(CaxflowError, match=r"cannot be read|is damaged|follows event"):
            check_root(copy)
        tried += 1
    assert tried > 20


def test_too_few_and_too_many_events_are_noticed(processed):
    for built in (EVENTS - 1, EVENTS + 1):
        with pytest.raises(CaxflowError, match=f"has {EVENTS} events, the trigger built {built}"):
            check_root(processed, events_built=built)


def test_event_numbers_are_compared_with_the_raw_data(processed):
    with pytest.raises(CaxflowError, match="1 events are missing, the first 30"):
        check_root(processed, event_numbers=range(EVENTS + 1))
    with pytest.raises(CaxflowError, match="1 are not in the raw data, the first 29"):
        check_root(processed, event_numbers=range(EVENTS - 1))
    shifted = [*range(EVENTS - 1), EVENTS]
    with pytest.raises(CaxflowError, match="missing, the first 30; 1 are not in the raw data, the first 29"):
        check_root(processed, event_numbers=shifted)


@pytest.mark.parametrize("numbers", [[0, 2, 1], [0, 1, 1]])
def test_events_out_of_order_or_twice_are_noticed(numbers, tmp_path):
    tree(tmp_path / "a.root", numbers)
    with pytest.raises(CaxflowError, match="event 1 follows event"):
        check_root(tmp_path / "a.root")


def test_what_is_missing_is_named(tmp_path):
    path = tmp_path / "a.root"
    with pytest.raises(CaxflowError, match="does not exist"):
        check_root(path)
    path.write_bytes(b"")
    with pytest.raises(CaxflowError, match="is damaged"):
        check_root(path)
    path.write_bytes(b"no ROOT file" * 100)
    with pytest.raises(CaxflowError, match="is damaged"):
        check_root(path)
    tree(path, [0, 1], name="other")
    with pytest.raises(CaxflowError, match="no tree 'tree'"):
        check_root(path)
    assert check_root(path, tree="other") == 2
    with uproot.recreate(path) as file:
        file.mktree("tree", {"x": "float32"})
        file["tree"].extend({"x": np.zeros(3, "float32")})
    with pytest.raises(CaxflowError, match="no event numbers"):
        check_root(path)


def test_an_empty_tree_is_judged_by_its_number_of_events(tmp_path):
    tree(tmp_path / "a.root", np.empty(0, "int64"))
    assert check_root(tmp_path / "a.root", events_built=0) == 0


def test_branches_that_uproot_does_not_understand_are_unpacked_all_the_same(copy, monkeypatch):
    # pax's trees have some; here all but the event numbers are made to look like them.
    monkeypatch.setattr(rootfile, "is_numbers", lambda branch: False)
    assert check_root(copy, events_built=EVENTS) == EVENTS
    content = bytearray(copy.read_bytes())
    name, start, stored, _ = max(baskets(copy), key=lambda basket: basket[2])
    content[start + stored // 2] ^= 4
    copy.write_bytes(content)
    with pytest.raises(CaxflowError, match=f"branch {name} cannot be read"):
        check_root(copy)


def test_the_metadata_are_read_back(processed, tmp_path):
    metadata = read_metadata(processed)
    assert metadata["file_builder_name"] == "caxflow mini"
    assert metadata["run"] == NAME
    assert metadata["correction_versions"]["AddGains"] == "5.0"
    assert metadata["configuration"]["DEFAULT"]["drift_velocity_liquid"] == 1.44e-4
    tree(tmp_path / "a.root", [0])
    with pytest.raises(CaxflowError, match="does not say how it was made"):
        read_metadata(tmp_path / "a.root")


BOMBS = {
    "zlib": (uproot.ZLIB(1), zlib.compressobj),
    "lzma": (uproot.LZMA(1), lambda: lzma.LZMACompressor(preset=0)),
    "zstd": (uproot.ZSTD(1), cramjam.zstd.Compressor),
}


def refused(path, why):
    with pytest.raises(CaxflowError, match=why):
        check_root(path)


def bomb(pack, size):
    packer, zeros = pack(), bytes(1 << 20)
    parts = [packer.compress(zeros) or b"" for _ in range(size >> 20)]
    made = packer.finish() if hasattr(packer, "finish") else b"".join(parts) + packer.flush()
    return bytes(made)


@pytest.mark.parametrize("kind", BOMBS)
@pytest.mark.parametrize("branch", ["event_number", "x"])
def test_a_block_is_unpacked_to_what_it_says_and_no_further(kind, branch, tmp_path):
    path, (compression, pack) = tmp_path / "a.root", BOMBS[kind]
    values = np.random.default_rng(1).permuted(np.arange(100_000))
    with uproot.recreate(path, compression=compression) as file:
        file.mktree("tree", {"event_number": "int64", "x": "int64"})
        file["tree"].extend({"event_number": np.cumsum(values + 1), "x": values})
    assert check_root(path) == len(values)
    start, stored = next(place[1:3] for place in baskets(path) if place[0] == branch)
    hostile, content = bomb(pack, 200 << 20), bytearray(path.read_bytes())
    assert len(hostile) < stored - 9  # so that it fits into the block
    content[start + 9 : start + 9 + len(hostile)] = hostile
    path.write_bytes(content)
    within(100, 20, refused, path, "a block does not unpack to the [0-9]+ bytes")


def test_a_part_that_is_said_to_be_larger_than_any_is_not_unpacked(copy):
    name, *_ = next(place for place in baskets(copy) if place[2] < place[3])
    content = bytearray(copy.read_bytes())
    with uproot.open(copy) as file:
        key = file["tree"][name].basket_key(0)
        at = key.fSeekKey + 6  # behind the length and the version of a key
    content[at : at + 4] = (1 << 30).to_bytes(4, "big")
    copy.write_bytes(content)
    within(100, 20, refused, copy, "134217728 are the most")


def test_steps_are_small_where_bytes_are_many(tmp_path):
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("tree", {"x": "var * int64"})
        for events, size in ((1000, 1), (1, 100_000), (1, 100_000), (1000, 1)):
            file["tree"].extend({"x": ak.unflatten(np.zeros(events * size, "i8"), [size] * events)})
    with uproot.open(tmp_path / "a.root") as file:
        steps = list(rootfile.steps([file["tree"]["x"]], 2002, 500_000))
        assert [start for start, _ in steps[1:]] == [stop for _, stop in steps[:-1]]
        assert (steps[0][0], steps[-1][1]) == (0, 2002)
        assert not any(start <= 1000 and stop >= 1002 for start, stop in steps)
