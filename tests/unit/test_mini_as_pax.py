"""The embedded processor beside pax 6.11.2: on data that pax processed, and with numbers that it gave."""

import awkward as ak
import numpy as np
import pytest
import uproot

import paxsim
from caxflow.mini.analysis import analyse
from caxflow.mini.parameters import Parameters
from caxflow.rawdata.rawformat import Event
from caxflow.targets import Run

MUON_VETO = Run("161101_1230", "muon_veto")


@pytest.fixture(scope="module")
def processed(tmp_path_factory):
    output = tmp_path_factory.mktemp("processed") / "a.root"
    return paxsim.process(output), output


def test_main_signals_are_those_that_pax_found(processed):
    counts, output = processed
    there = paxsim.compare(output)
    assert counts["events"] == len(there.found) == 100
    assert there.found.all()
    assert (there.area < 0.02).mean() >= 0.95
    assert (there.drift_time <= 10).mean() >= 0.99


def test_the_drift_time_is_that_between_the_highest_samples(processed):
    with uproot.open(processed[1]) as file:
        tree = file["tree"].arrays()
    s1, s2 = (tree["peaks.index_of_maximum"][tree[f"interactions.{kind}"]] for kind in ("s1", "s2"))
    assert ak.all(tree["interactions.drift_time"] == 10 * (s2 - s1))


# Muon veto

LENGTH = 1000  # samples


def muon_veto_event(number: int) -> Event:
    """Make an event by arithmetic alone, so that pax could be given the same.

    Several hits a pulse, small and large; pulses that follow one another without a gap, and pulses that reach
    out of the event.
    """
    channels, lefts, waves = [], [], []
    for channel in range(number % 2, 88, 1 + number % 3):
        length = 150 + (channel * 37 + number * 101) % 200
        left = 300 + (channel * 53 + number * 29) % 120
        sample = np.arange(length)
        wave = 16000 + (channel * 13) % 21 + (sample * 7919 + channel * 104729 + number * 15485863) % 5 - 2
        for k in range(1 + (channel + number) % 3):
            at = 50 + (k * 61 + channel * 7) % 90
            height = 30 + (channel * 191 + number * 977 + k * 389) % 3000
            while height and at < length:
                wave[at] -= height
                height, at = height * 9 // 10, at + 1
        if channel % 7 == 3:  # two pulses, the second begins in the midst of the light
            channels += [channel, channel]
            lefts += [left, left + 60]
            waves += [wave[:60], wave[60:]]
            continue
        if channel % 7 == 5:
            left = -40
        elif channel % 7 == 6:
            left = LENGTH - 90
        channels.append(channel)
        lefts.append(left)
        waves.append(wave)
    return Event(
        event_number=number,
        start_time=10**18,
        stop_time=10**18 + 10 * LENGTH,
        sample_duration=10,
        n_channels=88,
        dataset_name=str(MUON_VETO),
        n_pulses=len(waves),
        channels=np.array(channels, np.int64),
        lefts=np.array(lefts, np.int64),
        lengths=np.array([len(wave) for wave in waves], np.int64),
        samples=np.concatenate(waves).astype(np.int16),
    )


# Number of hits, and their area in pe in the tubes' channels (0 to 83), that pax 6.11.2 with XENON1T_MV.ini
# found in events 0 to 4; with its own gains, and with those that cax's AddGains writes.
PAX = {
    "its own": [(101, 13800.133), (51, 7402.932), (37, 7655.331), (100, 14099.694), (50, 7499.268)],
    "of cax": [(103, 82800.797), (52, 44417.589), (38, 45931.988), (102, 84598.164), (51, 44995.609)],
}


@pytest.mark.parametrize("gains", PAX)
def test_areas_of_the_muon_veto_are_those_of_pax(gains):
    values = {"its own": None, "of cax": [1e6] * 88}[gains]
    settings = {"kind": "muon_veto", "processor": {"DEFAULT": {"gains": values} if values else {}}}
    parameters = Parameters.from_settings(settings, MUON_VETO)
    (columns,) = analyse([muon_veto_event(number) for number in range(5)], parameters)
    n_hits, area = zip(*PAX[gains], strict=True)
    assert columns["events"]["n_hits"].tolist() == list(n_hits)
    event = np.repeat(np.arange(5), columns["peaks"]["count"])
    assert np.bincount(event, columns["peaks"]["area"]) == pytest.approx(area, rel=0.0001)
    assert np.isnan(columns["peaks"]["area_fraction_top"]).all()
