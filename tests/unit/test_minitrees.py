"""Minitrees: Basics and Fundamentals against what the processed file says, others by a command."""

import json
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
from caxflow.processing import commands, minitrees, products
from caxflow.targets import Run

NAME = "160315_1432"
RUN = Run(NAME)
EVENTS = 40

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


def test_basics_of_paxs_tree_with_deciles_and_veto_peaks():
    deciles = [[float(10 * i + d) for d in range(11)] for i in range(5)]
    events = ak.zip(
        {
            "event_number": [0, 1],
            "s1s": [[1], []],
            "s2s": [[2], []],
            "interactions.s1": [[1], []],
            "interactions.s2": [[2], []],
            **{f"interactions.{name}": [[1.5], []] for name in ("x", "y", "z", "drift_time")},
            "peaks.area": [[7.0, 20.0, 300.0, 9.0, 8.0], []],
            "peaks.area_fraction_top": [[0.1, 0.2, 0.3, 0.4, 0.5], []],
            "peaks.n_contributing_channels": [[1, 5, 60, 3, 2], []],
            "peaks.largest_hit_channel": [[3, 130, 5, 250, 247], []],
            "peaks.range_area_decile": [deciles, []],
        },
        depth_limit=1,
    )
    columns = minitrees.EMBEDDED["Basics"][2](events)
    assert (columns["s1_range_50p_area"][0], columns["s2_range_50p_area"][0]) == (15.0, 25.0)
    assert np.isnan(columns["s1"][1])
    assert columns["largest_veto"].tolist() == [9.0, 0.0]
    assert columns["largest_unknown"].tolist() == [8.0, 0.0]


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
    ("treemaker", "rows", "count"), [("Extended", "all", EVENTS), ("IsolatedPeaks", "twice", 2 * EVENTS)]
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
    assert list(minitrees.hax_path(place(treemaker)).parent.iterdir()) == []


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
    real = products.publish

    def killed_after(*arguments, **named):
        real(*arguments, **named)
        raise Killed

    monkeypatch.setattr(products, "publish", killed_after)
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
