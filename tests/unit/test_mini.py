import itertools
import os
import signal
import subprocess
import sys
import textwrap
import zipfile
import zlib
from pathlib import Path

import awkward as ak
import bson
import numpy as np
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st

from caxflow import simulate
from caxflow.errors import CaxflowError, Overrun
from caxflow.files.rootfile import check_root, read_metadata
from caxflow.mini import VERSION, merge, process_run, workers
from caxflow.mini.analysis import analyse
from caxflow.mini.classify import TYPES
from caxflow.mini.hits import find_hits
from caxflow.mini.parameters import Parameters
from caxflow.mini.writer import TreeWriter
from caxflow.rawdata import rawformat
from caxflow.rawdata.detectors import ELECTRONICS, top_positions
from caxflow.rawdata.rawformat import Event
from caxflow.simulate import run_document, simulate_run
from caxflow.targets import Run
from experiment import runs
from waiting import until

NAME = "160315_1432"
EVENTS = 200


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    directory = tmp_path_factory.mktemp("raw") / NAME
    return directory, simulate_run(directory, NAME, number=7, events=EVENTS, events_per_file=60, seed=11)


@pytest.fixture(scope="module")
def document():
    return run_document(NAME, number=7, events=EVENTS)


@pytest.fixture(scope="module")
def processed(raw, document, tmp_path_factory):
    output = tmp_path_factory.mktemp("processed") / f"{NAME}.root"
    return output, process_run(raw[0], output, settings=document, run=Run(NAME), cores=1)


@pytest.fixture(scope="module")
def small(document, tmp_path_factory):
    """A run of three zips, and what one process makes of it."""
    directory = tmp_path_factory.mktemp("small")
    simulate_run(directory / NAME, NAME, number=7, events=25, events_per_file=10, seed=12)
    output = directory / "a.root"
    return (
        directory / NAME,
        output,
        process_run(directory / NAME, output, settings=document, run=Run(NAME), cores=1),
    )


def arrays(path):
    with uproot.open(path) as file:
        return file["tree"].arrays()


def assert_same_branches(one, other):
    a, b = arrays(one), arrays(other)
    assert a.fields == b.fields
    for name in a.fields:
        assert ak.array_equal(a[name], b[name], equal_nan=True), name


# Against the simulator's truth


def main_pair(tree):
    """Peaks of the first interaction of each event that has one."""
    found = ak.to_numpy(tree["n_interactions"]) > 0
    tree = tree[found]

    def of(kind, column):
        which = tree[f"interactions.{kind}"][:, 0]
        return ak.to_numpy(tree[f"peaks.{column}"][ak.local_index(tree["event_number"], axis=0), which])

    def interaction(column):
        return ak.to_numpy(tree[f"interactions.{column}"][:, 0])

    return found, of, interaction


def test_what_was_simulated_is_found(raw, processed):
    truth, tree = raw[1], arrays(processed[0])
    found, of, interaction = main_pair(tree)
    expected = ~truth.vetoed
    assert found[expected].mean() > 0.99
    assert not found[~expected].any()

    def share_within(difference, tolerance):
        # Of all events with something in them: not finding it is not within.
        return (np.abs(difference) < tolerance).sum() / expected.sum()

    assert share_within(of("s2", "area") / truth.s2_area[found] - 1, 0.05) >= 0.95
    assert share_within(of("s1", "area") / truth.s1_area[found] - 1, 0.10) >= 0.95
    # The truth has mean times, the drift time is that between the highest samples.
    assert (
        share_within(of("s2", "center_time") - of("s1", "center_time") - truth.drift_time[found], 100.0)
        >= 0.95
    )
    between = of("s2", "index_of_maximum") - of("s1", "index_of_maximum")
    assert (interaction("drift_time") == 10 * between).all()
    assert share_within(interaction("z") - truth.z[found], 0.5) >= 0.95
    distance = np.hypot(interaction("x") - truth.x[found], interaction("y") - truth.y[found])
    assert share_within(distance, 8.0) >= 0.95
    assert np.median(distance) < 3.0


def test_main_signals_are_of_the_right_type_and_where_they_should_be_seen(raw, processed):
    _, of, interaction = main_pair(arrays(processed[0]))
    assert (of("s1", "type") == TYPES["s1"]).all()
    assert (of("s2", "type") == TYPES["s2"]).all()
    # By the simulator, 25 % and 62.7 % of the light go up, a little less with its dead tubes.
    assert np.median(of("s1", "area_fraction_top")) == pytest.approx(0.25, abs=0.04)
    assert np.median(of("s2", "area_fraction_top")) == pytest.approx(0.61, abs=0.05)
    lifetime = simulate.ELECTRON_LIFETIME
    assert np.allclose(
        interaction("s2_area_correction"), np.exp(interaction("drift_time") / lifetime), rtol=1e-6
    )


def test_the_tree_keeps_its_promises(processed):
    output, counts = processed
    tree = arrays(output)
    assert len(tree) == counts["events"] == EVENTS
    assert ak.to_list(tree["event_number"]) == list(range(EVENTS))
    for name in ("peaks", "interactions", "s1s", "s2s"):
        assert ak.sum(tree[f"n_{name}"]) == counts[name] > 0
    assert ak.all(tree["peaks.left"] <= tree["peaks.index_of_maximum"])
    assert ak.all(tree["peaks.index_of_maximum"] <= tree["peaks.right"])
    assert ak.all(tree["peaks.left"][:, 1:] >= tree["peaks.left"][:, :-1])
    assert ak.all(tree["peaks.tight_coincidence"] <= tree["peaks.n_contributing_channels"])
    for kind in ("s1", "s2"):
        assert ak.all(tree["peaks.type"][tree[f"{kind}s"]] == TYPES[kind])
        assert ak.sum(tree["peaks.type"] == TYPES[kind]) == counts[f"{kind}s"]
    s2_areas = tree["peaks.area"][tree["s2s"]]
    assert ak.all(s2_areas[:, 1:] <= s2_areas[:, :-1])
    lone = tree["peaks.type"] == TYPES["lone_hit"]
    assert ak.all(tree["peaks.n_contributing_channels"][lone] == 1)
    assert ak.all(tree["interactions.drift_time"] >= 0)
    assert ak.max(tree["n_interactions"]) <= 15
    assert check_root(output, events_built=EVENTS, event_numbers=range(EVENTS)) == EVENTS


# The same whoever does it


def test_several_processes_write_what_one_writes(small, document, tmp_path):
    raw, output, counts = small
    seen = []
    again = process_run(
        raw, tmp_path / "b.root", settings=document, run=Run(NAME), cores=2, progress=seen.append
    )
    assert again == counts
    assert seen == [10, 20, 25]
    assert_same_branches(output, tmp_path / "b.root")


def test_parts_merge_to_the_single_pass(small, document, tmp_path):
    raw, output, _ = small
    zips = rawformat.zip_names(raw)

    def process(name, settings=document):
        part = tmp_path / f"{name}.root"
        process_run(raw, part, settings=settings, run=Run(NAME), cores=1, zips=[name])
        return part

    parts = [process(name) for name in zips]
    assert len(parts) == 3
    assert merge(parts, tmp_path / "merged.root") == 25
    assert_same_branches(output, tmp_path / "merged.root")
    assert read_metadata(tmp_path / "merged.root") == read_metadata(output)
    assert check_root(tmp_path / "merged.root", event_numbers=range(25)) == 25

    with pytest.raises(CaxflowError, match="in order"):
        merge(parts[::-1], tmp_path / "wrong.root")
    process(zips[1], document | {"correction_versions": {"AddGains": "6.0"}})
    with pytest.raises(CaxflowError, match="other settings"):
        merge(parts, tmp_path / "wrong.root")
    with pytest.raises(CaxflowError, match="no parts"):
        merge([], tmp_path / "wrong.root")
    assert not list(tmp_path.glob("wrong*"))


def test_the_order_of_pulses_in_a_file_means_nothing(raw, document):
    parameters = Parameters.from_settings(document, Run(NAME))
    event = next(rawformat.iter_run(raw[0]))
    pulses = sorted(event.pulses(), key=lambda pulse: (-pulse.channel, pulse.left))
    turned = Event(
        *(getattr(event, name) for name in Event.__slots__[:7]),
        channels=np.array([pulse.channel for pulse in pulses]),
        lefts=np.array([pulse.left for pulse in pulses]),
        lengths=np.array([len(pulse.raw_data) for pulse in pulses]),
        samples=np.concatenate([pulse.raw_data for pulse in pulses]),
    )
    (one,), (other,) = analyse([event], parameters), analyse([turned], parameters)
    for group in one:
        for column in one[group]:
            assert np.allclose(one[group][column], other[group][column], equal_nan=True), (group, column)


# Hits and peaks by hand

# Photoelectrons a count, of a tube of the TPC with a gain of 2e6.
PE = ELECTRONICS["tpc"].electrons_per_count / 2e6


def an_event(pulses: list[tuple[int, int, np.ndarray]], n_samples=20_000, n_channels=260) -> Event:
    samples = [np.asarray(each[2], np.int16) for each in pulses]
    return Event(
        event_number=0,
        start_time=10**18,
        stop_time=10**18 + 10 * n_samples,
        sample_duration=10,
        n_channels=n_channels,
        dataset_name=NAME,
        n_pulses=len(pulses),
        channels=np.array([each[0] for each in pulses], np.int64),
        lefts=np.array([each[1] for each in pulses], np.int64),
        lengths=np.array([len(each) for each in samples], np.int64),
        samples=np.concatenate(samples) if samples else np.empty(0, np.int16),
    )


def hits_by_hand(pulse, n_samples):
    """Bounds, maximum, area, shape and saturation of the hits of one pulse in an event of so many samples."""
    raw = [int(sample) for sample in pulse.raw_data]
    baseline = sum(raw[:47]) / len(raw[:47])
    wave = [baseline - sample for sample in raw]
    below = [value for value in wave if value < 0]
    sigma = (sum(value**2 for value in below) / len(below)) ** 0.5 if below else 0.0
    threshold = int(max(6 * sigma, 15))
    begin, end = max(0, -pulse.left), min(len(wave), n_samples - pulse.left)
    wave = wave[begin:end]
    bounds, inside = [], False
    for i, value in enumerate(wave):
        if value > threshold and not inside:
            bounds.append([i, i])
        elif value > threshold:
            bounds[-1][1] = i
        inside = value > threshold
    core = [tuple(each) for each in bounds]
    for i, each in enumerate(bounds):
        limit = core[i + 1][0] - 1 if i + 1 < len(core) else len(wave) - 1
        each[1] = min(limit, each[1] + 20)
        limit = bounds[i - 1][1] + 1 if i else 0
        each[0] = max(limit, each[0] - 3)
    for first, last in bounds:
        yield described(wave[first : last + 1], pulse.left + begin + first, baseline - 0.5)


def described(hit, left, ceiling):
    """What a hit of these counts above its baseline looks like."""
    area = sum(hit)
    highest = max(range(len(hit)), key=lambda i: (hit[i], -i))
    center = sum(i * value for i, value in enumerate(hit)) / (area or 1)
    deviation = sum(abs(i - center) * value for i, value in enumerate(hit)) / (area or 1)
    return {
        "left": left,
        "right": left + len(hit) - 1,
        "maximum": left + highest,
        "saturated": sum(value > ceiling for value in hit),
        "area": area * PE,
        "height": hit[highest] * PE,
        "center": (left + center) * 10,
        "deviation": deviation,
    }


def assert_hits(hits, expected):
    # Where a hit and its undershoot cancel exactly, rounding decides whether anything is left, and little
    # that is left has no shape.
    hits = hits.take(hits.area > 1e-3)
    expected = [hit for hit in expected if hit["area"] > 1e-3]
    assert len(hits) == len(expected)
    for i, hit in enumerate(expected):
        for name in ("channel", "left", "right", "maximum", "saturated"):
            assert getattr(hits, name)[i] == hit[name], name
        for name in ("area", "height", "center", "deviation") if hit["area"] > 0.1 else ():
            assert getattr(hits, name)[i] == pytest.approx(hit[name], rel=1e-3, abs=0.05), name


@settings(max_examples=150)
@given(st.data())
def test_hits_are_those_found_by_hand(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    pulses = []
    for i in range(data.draw(st.integers(1, 4))):
        wave = 16000 + rng.normal(0, rng.choice([0.3, 2, 8]), rng.integers(20, 300))
        for _ in range(rng.integers(0, 6)):
            at = rng.integers(0, len(wave))
            wave[at : at + rng.integers(1, 15)] -= rng.choice([12, 16, 30, 400, 17000])
        # Some reach out of the event, or lie outside.
        left = rng.choice([rng.integers(0, 5000), rng.integers(-320, 20), rng.integers(19_700, 20_020)])
        pulses.append((i, int(left), np.clip(np.rint(wave), 0, 16383)))
    event = an_event(pulses)
    hits, noise = find_hits([event], np.full(260, PE))
    found = {
        pulse.channel: [{"channel": pulse.channel} | hit for hit in hits_by_hand(pulse, 20_000)]
        for pulse in event.pulses()
        if -len(pulse.raw_data) < pulse.left < 20_000
    }
    assert_hits(hits, [hit for each in found.values() for hit in each])
    quiet = [channel for channel, each in found.items() if not each]
    assert np.flatnonzero(noise).tolist() == quiet
    assert noise.sum() == len(quiet)


def test_a_long_hit_is_split_where_its_light_is_least():
    slopes = 300 + 5 * np.abs(200 - np.abs(np.arange(800) - 400))  # least at 200 and 600, flat nowhere
    wave = np.full(1500, 16000)
    wave[100:900] -= slopes
    wave[1100:1450] -= slopes[:350]  # not longer than what is left whole
    hits, _ = find_hits([an_event([(7, 500, wave)])], np.full(260, PE))
    # So does pax 6.11.2 (find_intervals_above_threshold) with these counts.
    assert hits.left.tolist() == [597, 802, 1202, 1597]
    assert hits.right.tolist() == [801, 1201, 1419, 1969]


@given(st.data())
def test_a_hit_that_is_cut_is_as_if_found_in_pieces(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    pulses = []
    for channel in range(3):
        wave = 16000 + rng.normal(0, 1, 150)
        wave[60 : rng.integers(62, 130)] -= rng.choice([30, 400, 17000])
        pulses.append((channel, 100, np.clip(np.rint(wave), 0, 16383)))
    event = an_event(pulses)
    hits, _ = find_hits([event], np.full(260, PE))
    cuts = [
        sorted(rng.choice(np.arange(hits.left[i], hits.right[i]), rng.integers(0, 4), False))
        for i in range(len(hits))
    ]
    which = np.repeat(np.arange(len(hits)), [len(each) for each in cuts])
    new, origin = hits.cut(which, np.array([at for each in cuts for at in each], np.int64))
    assert origin.tolist() == sorted(list(which) + list(range(len(hits))))
    expected = []
    waves = {pulse.channel: pulse.raw_data for pulse in event.pulses()}
    for i, each in enumerate(cuts):
        raw = waves[int(hits.channel[i])].astype(float)
        baseline = raw[:47].mean()
        bounds = [int(hits.left[i]), *(int(at) + 1 for at in each), int(hits.right[i]) + 1]
        for first, end in itertools.pairwise(bounds):
            piece = (baseline - raw)[first - 100 : end - 100].tolist()
            expected.append({"channel": hits.channel[i]} | described(piece, first, baseline - 0.5))
    assert_hits(new, expected)


TPC = Parameters("tpc", np.full(260, PE), 1.44e-4, 452_000.0)


def flash(start, length, channels, height=200):
    """Rectangular pulses in some channels, all at once."""
    wave = np.full(120 + length, 16000)
    wave[60 : 60 + length] -= height
    return [(channel, start - 60, wave) for channel in channels]


def peaks_of(pulses, parameters=TPC):
    (columns,) = analyse([an_event(pulses)], parameters)
    return columns


def test_area_and_place_of_a_peak_by_hand():
    channel = 40
    columns = peaks_of(flash(1000, 10, [channel, 200, 201]))
    peaks = columns["peaks"]
    one = 10 * 200 * PE
    assert peaks["area"] == pytest.approx([3 * one], rel=1e-5)
    assert peaks["area_fraction_top"] == pytest.approx([1 / 3], rel=1e-5)
    assert peaks["height"] == pytest.approx([3 * one / 10], rel=1e-5)
    assert (peaks["left"], peaks["right"], peaks["index_of_maximum"]) == (997, 1029, 1000)
    assert peaks["center_time"] == pytest.approx([10_045])
    assert peaks["area_midpoint"] == pytest.approx([10_050])
    assert peaks["rise_time"] == pytest.approx([40])
    assert peaks["range_50p_area"] == pytest.approx([50])
    assert peaks["range_90p_area"] == pytest.approx([90])
    assert (peaks["n_hits"], peaks["n_contributing_channels"], peaks["tight_coincidence"]) == (3, 3, 3)
    assert np.allclose([peaks["x"][0], peaks["y"][0]], top_positions()[channel], atol=1e-4)


@pytest.mark.parametrize(
    ("pulses", "types"),
    [
        (flash(1000, 10, [5]), ["lone_hit"]),
        (flash(1000, 10, [5, 6]), ["s1"]),
        (flash(1000, 100, [5, 6, 7, 8]), ["s2"]),
        (flash(1000, 100, [5, 6, 7]), ["unknown"]),
        (flash(1000, 10, [5, 6]) + flash(1004, 10, [7]), ["s1"]),
        (flash(1000, 10, range(9)) + flash(1060, 10, range(9)), ["s1", "s1"]),
        # Nearer than 350 ns: one cluster, but two groups of hits that are much narrower than both together.
        (flash(1000, 10, range(9)) + flash(1035, 10, range(9)), ["s1", "s1"]),
        (flash(1000, 100, range(9)) + flash(1300, 100, range(9)), ["s2", "s2"]),
        (flash(1000, 100, range(9)) + flash(1460, 100, range(9)), ["s2", "s2"]),
        (flash(1000, 100, [248, 254, 259]), []),
        ([], []),
    ],
)
def test_clusters_and_types_by_hand(pulses, types):
    assert peaks_of(pulses)["peaks"]["type"].tolist() == [TYPES[kind] for kind in types]


def test_interactions_pair_the_largest_and_only_what_comes_later():
    s2 = range(30, 60)
    pulses = flash(500, 100, s2, 900) + flash(1000, 10, range(20)) + flash(2000, 10, range(5))
    pulses += flash(5000, 100, s2, 500) + flash(9000, 100, s2, 800) + flash(15_000, 100, s2[:4], 20)
    columns = peaks_of(pulses)
    assert columns["peaks"]["type"].tolist() == [TYPES[kind] for kind in ("s2", "s1", "s1", "s2", "s2", "s2")]
    assert columns["s1s"][""].tolist() == [1, 2]
    assert columns["s2s"][""].tolist() == [0, 4, 3, 5]
    found = columns["interactions"]
    # The largest S2 comes before both S1s, the smallest is below 70 pe.
    assert list(zip(found["s1"], found["s2"], strict=True)) == [(1, 4), (2, 4), (1, 3), (2, 3)]
    drift = (9000 - 1000) * 10
    assert found["drift_time"][0] == pytest.approx(drift)
    assert found["z"][0] == pytest.approx(-1.44e-4 * (drift - 1700))
    assert found["s2_area_correction"][0] == pytest.approx(np.exp(drift / 452_000))


def test_pulses_outside_the_event_and_saturation():
    outside = flash(20_001, 10, [1, 2]) + flash(-15, 10, [3])
    assert len(peaks_of(outside)["peaks"]["area"]) == 0
    assert peaks_of(flash(1000, 10, [1, 2, 3], 16000))["peaks"]["n_saturated_channels"].tolist() == [3]


def test_events_do_not_touch_each_other():
    event = an_event(flash(19_900, 10, range(5)))
    following = an_event(flash(100, 10, range(5)))
    (columns,) = analyse([event, an_event([]), following], TPC)
    assert columns["peaks"]["count"].tolist() == [1, 0, 1]
    assert columns["s1s"][""].tolist() == [0, 0]


# Kinds of runs and their settings


@pytest.mark.parametrize("kind", ["muon_veto", "led"])
def test_other_detectors_have_peaks_but_no_signals(kind, tmp_path):
    run = Run(NAME, "muon_veto" if kind == "muon_veto" else "tpc")
    truth = simulate_run(tmp_path / "raw", NAME, kind=kind, number=7, events=20, seed=5)
    output = tmp_path / "a.root"
    counts = process_run(tmp_path / "raw", output, settings={"kind": kind}, run=run, cores=1)
    assert counts["peaks"] > 0
    assert counts["s1s"] == counts["s2s"] == counts["interactions"] == 0
    tree = arrays(output)
    area = ak.to_numpy(ak.sum(tree["peaks.area"], axis=1))
    if kind == "led":
        # Without gains areas are in electrons of the anode.
        area /= simulate.gains("tpc")[:248][simulate.gains("tpc")[:248] > 0].mean()
    assert np.median(area / truth.area) == pytest.approx(1.0, abs=0.1)


def test_bson_gives_what_pickles_give(document, tmp_path):
    for encoding in ("pickle", "bson"):
        simulate_run(tmp_path / encoding, NAME, number=7, events=4, seed=9, encoding=encoding)
        process_run(
            tmp_path / encoding, tmp_path / f"{encoding}.root", settings=document, run=Run(NAME), cores=1
        )
    assert_same_branches(tmp_path / "pickle.root", tmp_path / "bson.root")


def test_events_that_the_veto_emptied_stay(document, monkeypatch, tmp_path):
    monkeypatch.setattr(simulate, "_HIGH_ENERGY_VETO", 1.0)
    simulate_run(tmp_path / "raw", NAME, number=7, events=3)
    counts = process_run(tmp_path / "raw", tmp_path / "a.root", settings=document, run=Run(NAME), cores=1)
    assert (counts["events"], counts["peaks"]) == (3, 0)
    assert counts["pulses"] > 100
    assert check_root(tmp_path / "a.root", event_numbers=range(3)) == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gains", None),
        ("gains", []),
        ("gains", [1e6] * 261),
        ("gains", [-1.0]),
        ("gains", [float("nan")]),
        ("gains", "many"),
        ("gains", [10**400]),
        ("drift_velocity_liquid", None),
        ("drift_velocity_liquid", "fast"),
        ("drift_velocity_liquid", 0),
        ("electron_lifetime_liquid", float("inf")),
        ("electron_lifetime_liquid", True),
    ],
)
def test_settings_without_sense_are_named(name, value, document):
    default = document["processor"]["DEFAULT"] | {name: value}
    with pytest.raises(CaxflowError, match=f"settings of {NAME}: {name} is"):
        Parameters.from_settings({"processor": {"DEFAULT": default}}, Run(NAME))


@pytest.mark.parametrize("gains", [5, 0, float("nan"), "many", [[]]])
@pytest.mark.parametrize("kind", ["led", "muon_veto"])
def test_gains_of_other_detectors_may_be_missing_but_not_senseless(kind, gains):
    settings = {"kind": kind, "processor": {"DEFAULT": {"gains": gains}}}
    with pytest.raises(CaxflowError, match="gains is"):
        Parameters.from_settings(settings, Run(NAME, "muon_veto" if kind == "muon_veto" else "tpc"))


def test_kind_must_be_one_of_the_detector():
    with pytest.raises(CaxflowError, match="kind"):
        Parameters.from_settings({"kind": "led"}, Run(NAME, "muon_veto"))
    electrons = {name: each.electrons_per_count for name, each in ELECTRONICS.items()}
    led = Parameters.from_settings({"kind": "led"}, Run(NAME)).photoelectrons
    assert (led == electrons["tpc"]).all()
    muon_veto = Parameters.from_settings({}, Run(NAME, "muon_veto")).photoelectrons
    assert muon_veto.tolist() == pytest.approx(
        [electrons["muon_veto"] / 6e6] * 84 + [0] * 2 + [electrons["muon_veto"] / 6e6] * 2
    )


def test_clusters_of_other_runs_are_not_split():
    near = flash(1000, 10, range(9)) + flash(1035, 10, range(9))
    wide = flash(1000, 100, range(9)) + flash(1300, 100, range(9))
    far = flash(1000, 100, range(9)) + flash(1460, 100, range(9))
    led = Parameters("led", TPC.photoelectrons)
    assert [len(peaks_of(pulses, led)["peaks"]["area"]) for pulses in (near, wide, far)] == [1, 1, 2]


def test_the_file_says_which_version_it_is_and_what_it_lacks(small, document, tmp_path):
    settings = document | {"made_for": {"processor": "mini_v7", "pax_version": "v0.0.7"}}
    for known, version in ((document, f"0.0.{VERSION}"), (settings, "0.0.7")):
        process_run(small[0], tmp_path / "a.root", settings=known, run=Run(NAME), cores=1)
        metadata = read_metadata(tmp_path / "a.root")
        # As pax writes its own: what folders and database carry, without the "v".
        assert metadata["file_builder_version"] == version
        assert (metadata["mini_version"], metadata["tpc"]) == (VERSION, "XENON1T")
    lacks = " ".join(metadata["not_done"])
    for name in ("NeuralNet", "TopPatternFit", "S2SaturationCorrection", "S2SpatialCorrection"):
        assert name in lacks


# What goes wrong


@pytest.mark.parametrize("cores", [1, 2])
def test_a_damaged_event_is_named_and_nothing_is_left(cores, small, document, tmp_path):
    directory = tmp_path / "raw"
    directory.mkdir()
    names = rawformat.zip_names(small[0])
    for name in names:
        os.link(small[0] / name, directory / name)
    with zipfile.ZipFile(small[0] / names[1]) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["12"] = zlib.compress(bson.encode({"event_number": 12}))
    (directory / names[1]).unlink()
    with zipfile.ZipFile(directory / names[1], "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    output = tmp_path / "out" / "a.root"
    output.parent.mkdir()
    with pytest.raises(CaxflowError, match=rf"{names[1]}, event 12: .*list of pulses"):
        process_run(directory, output, settings=document, run=Run(NAME), cores=cores)
    assert list(output.parent.iterdir()) == []


def test_an_output_that_cannot_be_written_is_named(raw, document, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CaxflowError, match=r"file/a\.root cannot be written: "):
        process_run(raw[0], tmp_path / "file" / "a.root", settings=document, run=Run(NAME), cores=1)


def test_a_full_disk_is_named_and_nothing_is_left(tmp_path, monkeypatch):
    def full(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TreeWriter, "_flush", full)
    with pytest.raises(CaxflowError, match="cannot be written: No space"), TreeWriter(tmp_path / "a", {}):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_zip_is_named(raw, document, tmp_path):
    with pytest.raises(CaxflowError, match=r"has no 'b\.zip'"):
        process_run(raw[0], tmp_path / "a.root", settings=document, run=Run(NAME), cores=1, zips=["b.zip"])


# Workers


def test_workers_are_other_processes_and_end():
    used = set(workers.ordered_map(os.getpid, [()] * 20, 2))
    assert os.getpid() not in used
    assert 1 <= len(used) <= 2
    for pid in used:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_tasks_are_taken_as_they_are_needed():
    taken = []

    def tasks():
        for i in range(1000):
            taken.append(i)
            yield (i,)

    results = workers.ordered_map(abs, tasks(), 2)
    assert [next(results) for _ in range(10)] == list(range(10))
    assert len(taken) < 30
    results.close()


def test_a_killed_worker_is_an_error_and_no_hang():
    tasks = [(f"__import__('os').kill(__import__('os').getpid(), {int(signal.SIGKILL)})",)]
    with pytest.raises(CaxflowError, match="worker process was killed by signal 9"):
        list(workers.ordered_map(eval, tasks, 2))


def test_a_worker_without_memory_says_so_in_a_line():
    with pytest.raises(Overrun, match=r"^a worker process got no more memory -> ask for more"):
        list(workers.ordered_map(bytes, [(1 << 60,)], 2))


def test_workers_end_when_their_parent_is_killed():
    script = f"""
        import sys, time, os
        sys.path.insert(0, {str(Path(workers.__file__).parents[2])!r})
        from caxflow.mini.workers import ordered_map
        def tasks():
            yield from [("__import__('os').getpid()",)] * 8
            while True:
                yield ("__import__('time').sleep(0.2)",)
        results = ordered_map(eval, tasks(), 2)
        print(*{{next(results) for _ in range(8)}}, flush=True)
        for _ in results:
            pass
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert pids
    until(lambda: not any(map(runs, pids)), f"the end of the workers {pids}")


def test_a_mistake_in_a_worker_shows_its_traceback():
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        list(workers.ordered_map(divmod, [(1, 0)], 2))


def test_workers_do_not_run_the_script_again(small, tmp_path):
    # Snakemake's scripts have no `if __name__ == "__main__"`.
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
            import sys
            sys.path.insert(0, {str(Path(workers.__file__).parents[2])!r})
            from caxflow.mini import process_run
            from caxflow.simulate import run_document
            from caxflow.targets import Run
            print("once")
            document = run_document({NAME!r}, number=7, events=25)
            process_run({str(small[0])!r}, "a.root", settings=document, run=Run({NAME!r}), cores=2)
        """)
    )
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stderr == ""
    assert done.stdout == "once\n"
    assert check_root(tmp_path / "a.root", event_numbers=range(25)) == 25
