"""Minitrees: Basics and Fundamentals against what the processed file says, others by a command."""

import dataclasses
import json
import lzma
import math
import shlex
import sys
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from caxflow import mini, simulate
from caxflow.conditions import settings as frozen
from caxflow.errors import CaxflowError
from caxflow.files import rootfile
from caxflow.processing import branches, commands, minitrees, products, treemakers
from caxflow.targets import Run

NAME = "160315_1432"
RUN = Run(NAME)
EVENTS = 40
PAX = Path(__file__).resolve().parents[1] / "data/pax"
HAX = json.loads((PAX / "hax_answers.json").read_text())
BASICS_OF_PAX = (*minitrees.EMBEDDED["Basics"].branches, *minitrees.EMBEDDED["Basics"].native)

# Stands for hax: copies what it needs, by its own names, out of the processed file.
MAKER = """
import sys, numpy, uproot
processed, directory, treemaker, run, rows = sys.argv[1:]
numbers = uproot.open(processed)["tree"]["event_number"].array(library="np")
if rows == "none":
    sys.exit(0)
twice = numpy.repeat(numbers, 2)
numbers = {"all": numbers, "some": numbers[::2], "twice": twice, "wrong": numbers + 1}[rows]
with uproot.recreate(f"{directory}/{run}_{treemaker}.root") as file:
    file.mktree(treemaker, {"event_number": "int64"})
    file[treemaker].extend({"event_number": numbers})
"""


@pytest.fixture(scope="module")
def processed(tmp_path_factory):
    """A processed file of the embedded processor, never changed."""
    folder = tmp_path_factory.mktemp("processed")
    simulate.simulate_run(folder / NAME, NAME, number=4242, events=EVENTS, seed=6)
    document = simulate.run_document(NAME, number=4242, events=EVENTS)
    settings = frozen.freeze(document, processor="mini_v1", pax_version="v0.0.1")
    output = folder / f"{NAME}.root"
    mini.process_run(folder / NAME, output, settings=settings, run=RUN, cores=1)
    return output


@pytest.fixture
def place(tmp_path):
    return lambda treemaker: minitrees.minitree_path(tmp_path / "minitrees", "v0.0.1", RUN, treemaker)


def read(minitree, treemaker):
    with uproot.open(minitree) as file:
        return file[treemaker].arrays(library="np"), json.loads(file["metadata"].member("fTitle"))


def same(found, wanted):
    return found == pytest.approx(wanted, rel=1e-6) or (math.isnan(found) and math.isnan(wanted))


def test_fundamentals_are_the_times_of_each_event(processed, place):
    made = minitrees.make("Fundamentals", processed, place("Fundamentals"), number=4242)
    assert made.path.name == "160315_1432_Fundamentals.root"
    assert (made.rows, made.adopted) == (EVENTS, False)
    columns, metadata = read(made.path, "Fundamentals")
    with uproot.open(processed) as file:
        events = file["tree"].arrays(["event_number", "start_time", "stop_time"], library="np")
    assert columns["event_number"].tolist() == events["event_number"].tolist()
    assert set(columns["run_number"]) == {4242}
    assert columns["event_time"].tolist() == events["start_time"].tolist()
    assert columns["event_duration"].tolist() == (events["stop_time"] - events["start_time"]).tolist()
    assert metadata["version"] == "0.1"
    assert metadata["pax_version"] == "0.0.1"  # as the folder, for hax's pax_version_policy
    # hax makes anew what is below its minimum_minitree_hax_version, 0.5.0, or does not say.
    assert [int(part) for part in metadata["hax_version"].split(".")] >= [0, 5, 0]
    assert metadata["created_by"].startswith("caxflow ")


def largest(event, exclude, kinds):
    areas = [
        peak["area"] for i, peak in enumerate(event["peaks"]) if i not in exclude and peak["type"] in kinds
    ]
    return max(areas, default=0)


def test_basics_are_the_main_interaction_and_the_largest_other_peaks(processed, place):
    made = minitrees.make("Basics", processed, place("Basics"), number=4242)
    columns, _ = read(made.path, "Basics")
    with uproot.open(processed) as file:
        tree = file["tree"]
        groups = {"peaks": {}, "interactions": {}}
        for name in tree.keys():  # noqa: SIM118 - a tree is no dict
            group, _, field = name.partition(".")
            if field:
                groups[group][field] = tree[name].array()
        events = ak.to_list(ak.zip({name: ak.zip(fields) for name, fields in groups.items()}, depth_limit=1))
    assert len(events) == made.rows
    with_interaction = 0
    for row, event in enumerate(events):
        basics = {name: values[row] for name, values in columns.items()}
        if event["interactions"]:
            with_interaction += 1
            main = event["interactions"][0]
            s1, s2 = event["peaks"][main["s1"]], event["peaks"][main["s2"]]
            exclude = (main["s1"], main["s2"])
            wanted = {"s1": s1["area"], "s2": s2["area"], "drift_time": main["drift_time"]}
            wanted |= {"x_pax": main["x"], "y_pax": main["y"], "z": main["z"]}
            wanted |= {"s1_area_fraction_top": s1["area_fraction_top"]}
            wanted |= {"s2_area_fraction_top": s2["area_fraction_top"]}
            wanted |= {"s1_range_50p_area": s1["range_50p_area"], "s2_range_50p_area": s2["range_50p_area"]}
        else:
            exclude = ()
            wanted = dict.fromkeys(("s1", "s2", "x_pax", "y_pax", "z", "drift_time"), math.nan)
        types = {"s1": 1, "s2": 2, "unknown": 0}
        wanted |= {f"largest_other_{kind}": largest(event, exclude, [types[kind]]) for kind in ("s1", "s2")}
        wanted |= {"largest_unknown": largest(event, exclude, [types["unknown"]]), "largest_veto": 0}
        assert {name: basics[name] for name in wanted if not same(basics[name], wanted[name])} == {}
    assert with_interaction > EVENTS / 2
    assert columns["largest_other_s2"].max() > 0
    assert columns["largest_unknown"].max() > 0


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    """Files that pax wrote, by run: see tests/data/pax."""
    folder = tmp_path_factory.mktemp("native")
    for packed in PAX.glob("*.root.xz"):
        (folder / packed.stem).write_bytes(lzma.decompress(packed.read_bytes()))
    return lambda run: folder / f"{run}.root"


@pytest.mark.parametrize("treemaker", minitrees.EMBEDDED)
@pytest.mark.parametrize("run", HAX)
def test_minitrees_of_paxs_own_files_are_those_that_hax_makes_of_them(native, tmp_path, run, treemaker):
    answer = HAX[run][treemaker]
    path = minitrees.minitree_path(tmp_path, "v6.11.2", Run.parse(run), treemaker)
    made = minitrees.make(treemaker, native(run), path, number=answer["run_number"][0])
    columns, metadata = read(path, treemaker)
    assert metadata["pax_version"] == ("4.4.1" if run == "160301_1200" else "6.11.2")
    assert made.rows == len(answer["event_number"])
    for name, values in answer.items():
        wanted = np.array([math.nan if value is None else value for value in values])
        assert np.array_equal(columns[name], wanted, equal_nan=True), name
    # hax has no columns of interactions if there is none in the whole file.
    for name in set(columns) - set(answer):
        assert np.isnan(columns[name]).all(), name
    assert ("s1" in answer) == (run in ("161101_1230", "160301_1200") and treemaker == "Basics")


def with_branches(processed, path, change=None, **metadata):
    """Write a processed file anew; `change` may alter its branches, a dict of arrays by name."""
    with uproot.open(processed) as file:
        said = json.loads(file["pax_metadata"].member("fTitle")) | metadata
        tree = file["tree"]
        arrays = {name: tree[name].array() for name in tree.keys()}  # noqa: SIM118 - a tree is no dict
    if change:
        change(arrays)
    arrays = {name: array for name, array in arrays.items() if name not in ("n_peaks", "n_interactions")}
    with uproot.recreate(path) as file:
        file["pax_metadata"] = minitrees._named("pax_metadata", said)
        file.mktree(
            "tree",
            {name: array.type.content for name, array in arrays.items()},
            # A counter for each, so that they may differ in length.
            counter_name=lambda name: f"count_{name.replace('.', '_')}",
        ).extend(arrays)
    return path


def needed(treemaker):
    recipe = minitrees.EMBEDDED[treemaker]
    return [each.name for each in (*recipe.branches, *recipe.embedded)]


NEEDED = [(treemaker, name) for treemaker in minitrees.EMBEDDED for name in needed(treemaker)]


@pytest.mark.parametrize(("treemaker", "name"), NEEDED)
def test_r4_a_branch_that_is_missing_is_named_and_is_no_nan(processed, place, tmp_path, treemaker, name):
    lacking = with_branches(processed, tmp_path / "lacking.root", lambda arrays: arrays.pop(name))
    with pytest.raises(CaxflowError) as caught:
        minitrees.make(treemaker, lacking, place(treemaker), number=1)
    assert f"{lacking}, written by caxflow mini" in str(caught.value)
    assert f"has no branch {name}: {treemaker} cannot be made of it" in str(caught.value)
    assert not place(treemaker).exists()


@pytest.mark.parametrize(("treemaker", "name"), NEEDED)
def test_r4_a_branch_of_another_type_is_named(processed, place, tmp_path, treemaker, name):
    def other(arrays):
        values = arrays[name]
        lists = values.ndim > 1
        arrays[name] = ak.num(values) if lists else ak.singletons(values)

    changed = with_branches(processed, tmp_path / "changed.root", other)
    with pytest.raises(CaxflowError, match=rf"{changed}: branch {name} holds .*; {treemaker} is made of"):
        minitrees.make(treemaker, changed, place(treemaker), number=1)


@pytest.mark.parametrize("name", ["interactions.s1", "peaks.type"])
def test_r4_what_has_to_be_whole_is_no_fraction(processed, place, tmp_path, name):
    def floats(arrays):
        arrays[name] = ak.values_astype(arrays[name], np.float64)

    changed = with_branches(processed, tmp_path / "changed.root", floats)
    with pytest.raises(CaxflowError, match=rf"branch {name} holds double\[\]; Basics is made of a list of"):
        minitrees.make("Basics", changed, place("Basics"), number=1)


@pytest.mark.parametrize("found", [99, -1])
def test_r4_an_interaction_of_a_peak_that_is_not_there_is_named(processed, place, tmp_path, found):
    def wrong(arrays):
        arrays["interactions.s2"] = ak.full_like(arrays["interactions.s2"], found)

    changed = with_branches(processed, tmp_path / "changed.root", wrong)
    with pytest.raises(CaxflowError, match=rf"interactions.s2 of event \d+ is {found}, of \d+ peaks"):
        minitrees.make("Basics", changed, place("Basics"), number=1)


def test_r4_lists_of_peaks_that_differ_in_length_are_named(processed, place, tmp_path):
    def shorter(arrays):
        arrays["peaks.range_50p_area"] = arrays["peaks.range_50p_area"][:, :1]

    changed = with_branches(processed, tmp_path / "changed.root", shorter)
    with pytest.raises(CaxflowError, match=r"range_50p_area cannot be read: its lists are not as long as"):
        minitrees.make("Basics", changed, place("Basics"), number=1)


@pytest.mark.parametrize("treemaker", minitrees.EMBEDDED)
def test_r4_a_tree_without_events_is_named(processed, place, tmp_path, treemaker):
    def none(arrays):
        arrays.update({name: array[:0] for name, array in arrays.items()})

    changed = with_branches(processed, tmp_path / "changed.root", none)
    with pytest.raises(CaxflowError, match=f"{changed} has no events"):
        minitrees.make(treemaker, changed, place(treemaker), number=1)


@pytest.mark.parametrize("types", [None, "s1", {"s1": "one"}])
def test_r4_a_tree_that_does_not_say_what_its_types_stand_for_is_named(processed, place, tmp_path, types):
    changed = with_branches(processed, tmp_path / "changed.root", peak_types=types)
    with pytest.raises(CaxflowError, match=r"branch peaks\.type has numbers, .* by peak_types"):
        minitrees.make("Basics", changed, place("Basics"), number=1)


@pytest.mark.parametrize("name", ["area", "type", "detector", "range_area_decile"])
@pytest.mark.parametrize("change", ["missing", "size", "numbers", "one"])
def test_r4_the_same_of_paxs_own_files(native, name, change):
    branch = next(each for each in BASICS_OF_PAX if each.name == f"peaks.{name}")
    other = {
        "missing": {"name": f"peaks.{name}_of_pax_7"},
        "size": {"size": 12, "words": ()},
        "numbers": {"words": () if branch.words else ("s1",), "size": 0},
        "one": {"lists": False, "words": ()},
    }[change]
    asked = dataclasses.replace(branch, **other)
    with pytest.raises(CaxflowError) as caught:
        list(branches.read(native("161101_1230"), [asked], "Proximity"))
    said = str(caught.value)
    assert str(native("161101_1230")) in said
    assert "Proximity" in said
    assert f"peaks.{name}" in said
    assert ("written by pax 6.11.2, has no branch" in said) == (change == "missing")


def test_texts_of_peaks_are_read_as_pax_wrote_them(native):
    with uproot.open(native("161101_1230")) as file:
        raw = file["tree"]["peaks.type"].array(uproot.AsJagged(uproot.AsDtype("u1")))
        peaks = file["tree"]["peaks.area"].array()
    words = ("unknown", "s2", "lone")
    branch = branches.Branch("peaks.type", words=words)
    (read_,) = branches.read(native("161101_1230"), [branch], "Basics")
    for event, (one, codes) in enumerate(zip(raw, read_["peaks.type"], strict=True)):
        data, texts = bytes(one), []
        while data:
            texts.append(data[1 : 1 + data[0]].decode())
            data = data[1 + data[0] :]
        assert len(texts) == len(peaks[event])
        assert [words.index(text) if text in words else -1 for text in texts] == codes.tolist()


@pytest.mark.parametrize(
    "raw",
    [
        [[2, 115, 49], [115, 49]],  # begins with no length
        [[2, 115], [49, 2, 115, 50]],  # goes on in the next event
        [[3, 115, 49]],  # is cut
        [[2, 115, 49, 50]],  # is longer than it says
        [[255, 1, 0, 0, 0, 115]],  # ROOT's form for long texts, which no type has
    ],
)
def test_bytes_that_are_no_texts_are_an_error(raw):
    branch = branches.Branch("peaks.type", words=("s1",))
    with pytest.raises(CaxflowError, match=r"/data/x\.root: branch peaks\.type cannot be read"):
        branches._coded(ak.Array(raw), branch, "/data/x.root")


def test_a_lone_hit_in_the_veto_and_peaks_of_other_detectors_are_the_largest_of_none():
    types = treemakers._TYPES
    peaks = [  # area, type, detector
        (30.0, "lone_hit", "veto"),
        (9.0, "unknown", "veto"),
        (8.0, "s1", "veto"),
        (50.0, "unknown", "sum_wv"),
        (7.0, "coincidence", "tpc"),
        (5.0, "unknown", "tpc"),
        (6.0, "noise", "tpc"),
        (math.nan, "s1", "tpc"),
        (-2.0, "s2", "tpc"),
    ]

    def codes(words, at):
        return ak.Array([[words.index(each[at]) if each[at] in words else -1 for each in peaks], []])

    empty = ak.Array([[], []])
    empty = ak.values_astype(empty, np.int64)
    columns = minitrees.EMBEDDED["Basics"].compute(
        {
            "event_number": ak.Array([0, 1]),
            "peaks.area": ak.Array([[each[0] for each in peaks], []]),
            "peaks.area_fraction_top": ak.Array([[0.5] * len(peaks), []]),
            "peaks.type": codes(types, 1),
            "peaks.detector": codes(treemakers._DETECTORS, 2),
            "peaks.range_50p_area": ak.Array([[10.0] * len(peaks), []]),
            **{f"interactions.{name}": empty for name in ("s1", "s2", "x", "y", "z", "drift_time")},
        }
    )
    assert columns["largest_veto"].tolist() == [9.0, 0.0]
    assert columns["largest_unknown"].tolist() == [5.0, 0.0]
    assert columns["largest_coincidence"].tolist() == [7.0, 0.0]
    assert columns["largest_other_s1"].tolist() == [0.0, 0.0]
    assert columns["largest_other_s2"].tolist() == [0.0, 0.0]
    assert np.isnan(columns["s1"]).all()


def test_a_minitree_that_is_there_is_adopted_if_whole_and_never_overwritten(processed, place):
    path = place("Basics")
    made = minitrees.make("Basics", processed, path, number=4242)
    again = minitrees.make("Basics", processed, path, number=4242)
    assert (again.adopted, again.size, again.rows) == (True, made.size, made.rows)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 9 // 10])
    with pytest.raises(CaxflowError, match=r"160315_1432_Basics\.root.*exists already.*move it away"):
        minitrees.make("Basics", processed, path, number=4242)
    assert path.stat().st_size < len(content)
    assert not minitrees.make("Basics", processed, path, number=4242, replace=True).adopted
    assert minitrees.check("Basics", path, np.arange(EVENTS)) == EVENTS
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9, 0.99, 0.999])
def test_a_cut_minitree_is_noticed(processed, place, share):
    made = minitrees.make("Basics", processed, place("Basics"), number=4242)
    content = made.path.read_bytes()
    made.path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CaxflowError):
        minitrees.check("Basics", made.path, np.arange(EVENTS))


def test_a_damaged_processed_file_is_named(processed, place, tmp_path):
    damaged = tmp_path / "damaged.root"
    damaged.write_bytes(processed.read_bytes()[:1000])
    with pytest.raises(CaxflowError, match=r"damaged\.root"):
        minitrees.make("Basics", damaged, place("Basics"), number=4242)


def merged(path, place):
    mini.merge([path], path.with_suffix(".merged"))


def made(path, place):
    minitrees.make("Basics", path, place("Basics"), number=4242)


@pytest.mark.parametrize("read_it", [merged, made])
@pytest.mark.parametrize("seed", range(3))
def test_damage_of_the_description_of_a_tree_is_named(processed, place, tmp_path, read_it, seed):
    """As by a bad sector; what the file says of itself is whole."""
    data, rng = bytearray(processed.read_bytes()), np.random.default_rng(seed)
    with uproot.open(processed) as file:
        key = file.key("tree")
        first, last = key.data_cursor.index, key.fSeekKey + key.fNbytes
    for at in rng.integers(first + 20, last - 20, 30):
        data[at] = rng.integers(256)
    damaged = tmp_path / "damaged.root"
    damaged.write_bytes(data)
    assert rootfile.read_metadata(damaged) == rootfile.read_metadata(processed)
    with pytest.raises(CaxflowError, match=r"damaged\.root (is damaged|has no readable tree)"):
        read_it(damaged, place)


def test_only_two_are_embedded(processed, place):
    with pytest.raises(CaxflowError, match="embedded are Basics, Fundamentals"):
        minitrees.make("Extended", processed, place("Extended"), number=4242)


@pytest.mark.parametrize("name", ["../../x", "basics", "A b", "", "A.B"])
def test_a_treemakers_name_is_no_path(name):
    with pytest.raises(CaxflowError, match="not the name of a treemaker"):
        minitrees.minitree_path("/data", "v6.11.2", RUN, name)


def by_command(processed, place, tmp_path, treemaker, rows):
    script = tmp_path / "maker.py"
    script.write_text(MAKER)
    words = [sys.executable, str(script)]
    text = f"{shlex.join(words)} {{processed}} {{directory}} {{treemaker}} {{run}} {rows}"
    return minitrees.make_by_command(
        treemaker,
        minitrees.read_template(text),
        commands.Environment(),
        processed,
        place(treemaker),
        run=RUN,
        number=4242,
        pax_version="v0.0.1",
        workdir=tmp_path / "work",
        log=tmp_path / "log",
    )


@pytest.mark.parametrize(
    ("treemaker", "rows", "count"),
    [
        ("Extended", "all", EVENTS),
        ("IsolatedPeaks", "twice", 2 * EVENTS),
        ("BigBeforeSmall", "twice", 2 * EVENTS),
    ],
)
def test_other_minitrees_are_made_by_a_command(processed, place, tmp_path, treemaker, rows, count):
    made = by_command(processed, place, tmp_path, treemaker, rows)
    assert (made.path, made.rows) == (place(treemaker), count)
    assert list((tmp_path / "work").iterdir()) == []
    assert [path.name for path in made.path.parent.iterdir()] == [made.path.name]


@pytest.mark.parametrize(
    ("treemaker", "rows", "message"),
    [
        ("Extended", "some", "events are missing"),
        ("Extended", "twice", "event 0 follows event 0"),
        ("IsolatedPeaks", "wrong", "events that are not in the processed file"),
        ("Extended", "none", "its command wrote no 160315_1432_Extended.root"),
    ],
)
def test_what_a_command_makes_is_checked(processed, place, tmp_path, treemaker, rows, message):
    with pytest.raises(CaxflowError) as caught:
        by_command(processed, place, tmp_path, treemaker, rows)
    assert str(caught.value).startswith(f"{NAME}_{treemaker}.root was not made: ")
    assert message in str(caught.value)
    # Which hax would say by "'TTree' object has no attribute 'events'".
    hint = "hax's: that reads files of pax alone, and this one is the embedded processor's; Basics"
    assert (hint in str(caught.value)) == (rows == "none")
    assert list(minitrees.hax_path(place(treemaker)).parent.iterdir()) == []


def test_what_a_command_fails_of_is_told_of_a_file_that_says_nothing_of_its_processor(place, tmp_path):
    foreign = tmp_path / "foreign.root"
    with uproot.recreate(foreign) as file:
        file.mktree("tree", {"event_number": "int64"}).extend({"event_number": np.arange(3)})
    with pytest.raises(
        CaxflowError, match=r"its command wrote no 160315_1432_Extended\.root: .* -> read [^;]*$"
    ):
        by_command(foreign, place, tmp_path, "Extended", "none")


def test_a_command_for_minitrees_is_checked_early():
    with pytest.raises(CaxflowError, match=r"minitrees: unknown placeholder \{input\}"):
        minitrees.read_template("haxer --input {input}")
    assert Path(minitrees.read_template("haxer {processed}").words[0]).name == "haxer"


@pytest.mark.parametrize("old", [False, True])
def test_what_hax_made_by_itself_moves_into_the_folder_of_its_run(processed, place, old):
    """Where cax had hax make it, and where hax looks for it."""
    path = place("Basics")
    flat = minitrees.hax_path(path)
    made = minitrees.make("Basics", processed, path, number=1)
    path.rename(flat)
    path.parent.rmdir()
    inode = flat.stat().st_ino
    again = minitrees.make("Basics", processed, path, number=1, replace=old)
    assert again.adopted is not old
    assert (path.stat().st_ino == inode) is not old
    assert not flat.exists()
    assert again.rows == made.rows


def test_a_kill_while_what_hax_made_is_replaced_leaves_hax_nothing_of_before(processed, place, monkeypatch):
    """Else the next call would take the new one as done, and hax would read the old one for ever."""

    class Killed(BaseException):
        pass

    path = place("Basics")
    flat = minitrees.hax_path(path)
    minitrees.make("Basics", processed, path, number=1)
    path.rename(flat)
    real = products.Workshop.publish

    def killed_after(*arguments, **named):
        real(*arguments, **named)
        raise Killed

    monkeypatch.setattr(products.Workshop, "publish", killed_after)
    with pytest.raises(Killed):
        minitrees.make("Basics", processed, path, number=1, replace=True)
    assert path.exists()
    assert not flat.exists()


def test_what_hax_made_stays_where_it_is_unless_it_is_whole(processed, place):
    path = place("Basics")
    flat = minitrees.hax_path(path)
    flat.parent.mkdir(parents=True)
    flat.write_bytes(b"root, but cut")
    with pytest.raises(CaxflowError, match="it exists already"):
        minitrees.make("Basics", processed, path, number=1)
    assert flat.read_bytes() == b"root, but cut"
    assert not path.exists()
