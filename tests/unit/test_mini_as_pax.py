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


# Saturation


def saturated_event() -> Event:
    """Make an event of the TPC by arithmetic alone: three S2s, which drive two of 42 tubes to their end.

    The last two follow closely. In a third tube a flash does so, which is too short to be corrected.
    """
    samples = np.arange(2600)
    waves = []
    for channel in range(128, 170):
        wave = 16000 + channel % 7 + (samples * 7919 + channel * 104729) % 5 - 2
        for center, width, height in ((400, 180, 3000), (1400, 150, 2000), (1750, 150, 2500)):
            top = height + 10 * channel + (22_000 if channel in (130, 150) else 0)
            bump = top * (width**2 - (samples - center) ** 2) // width**2
            wave -= np.maximum(bump, 0)
        if channel == 133:
            wave[2300:2304] -= 17_000
        waves.append(np.clip(wave, 0, 16_383))
    return Event(
        event_number=0,
        start_time=10**18,
        stop_time=10**18 + 10 * 4000,
        sample_duration=10,
        n_channels=260,
        dataset_name=str(paxsim.RUN),
        n_pulses=len(waves),
        channels=np.arange(128, 170),
        lefts=np.full(len(waves), 100),
        lengths=np.full(len(waves), len(samples)),
        samples=np.concatenate(waves).astype(np.int16),
    )


# Left, right, area in pe and saturated samples of the peaks that pax 6.11.2 found in it, with gains of 2e6.
PAX_SATURATED = [
    (318, 679, 477964.20, 452),
    (680, 699, 0.20, 0),
    (1348, 1650, 326305.69, 364),
    (1651, 1669, 0.37, 0),
    (1698, 2000, 362305.73, 372),
    (2001, 2019, 0.41, 0),
    (2397, 2423, 548.56, 4),
]


def test_saturated_pulses_are_corrected_as_pax_does():
    settings = {"processor": {"DEFAULT": {"gains": [2e6] * 260, "drift_velocity_liquid": 1.44e-4}}}
    settings["processor"]["DEFAULT"]["electron_lifetime_liquid"] = 5e5
    (columns,) = analyse([saturated_event()], Parameters.from_settings(settings, paxsim.RUN))
    left, right, area, saturated = zip(*PAX_SATURATED, strict=True)
    peaks = columns["peaks"]
    assert (peaks["left"].tolist(), peaks["right"].tolist()) == (list(left), list(right))
    assert peaks["area"] == pytest.approx(area, rel=0.0001, abs=0.006)
    assert peaks["n_saturated_samples"].tolist() == list(saturated)


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
