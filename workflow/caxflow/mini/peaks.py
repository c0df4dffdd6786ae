"""Peaks: clusters of hits in time, and their properties.

As in pax 6.11 (``BasicProperties``, and what `caxflow.mini.clusters` and `caxflow.mini.splitting` name).
"""

from dataclasses import dataclass, fields

import numpy as np

from caxflow.mini import clusters, splitting
from caxflow.mini.clusters import Clusters
from caxflow.mini.hits import Hits
from caxflow.mini.waveform import SumWaveform
from caxflow.rawdata.detectors import TPC_TOP, top_positions
from caxflow.rawdata.rawformat import SAMPLE_DURATION

COINCIDENCE = 50 // SAMPLE_DURATION
OUTLIER = 2.5  # times the mean distance of a tube from the light's centre
_FRACTIONS = np.array([0.05, 0.1, 0.25, 0.5, 0.75, 0.95])
_NO_CHANNEL = -99999  # pax's number for none


@dataclass(slots=True)
class Peaks:
    """Peaks of a batch of events, by event and then by time; every array has one entry a peak.

    Parameters
    ----------
    event : int64
        Index of the event in the batch.
    left, right, index_of_maximum : int64
        First, last and highest sample of the sum waveform, counted from the event's start.
    area, height : float64
        In pe and pe/sample.
    area_fraction_top, hits_fraction_top : float64
        Of the TPC's top array; NaN in the muon veto.
    n_hits, n_contributing_channels, n_contributing_channels_top : int64
    tight_coincidence : int64
        Channels with a hit's maximum within 50 ns of the peak's.
    n_saturated_channels, n_saturated_samples : int64
    center_time, area_midpoint : float64
        Mean time of the light, and the time until which half of it came, in ns since the event's start.
    hit_time_mean, hit_time_std : float64
        Mean and standard deviation of the hits' times, weighted by area, in ns (the first since the event's
        start).
    rise_time, range_50p_area, range_90p_area : float64
        From 10 % to 50 % of the area; width of the central 50 % and 90 %, in ns.
    x, y : float64
        Where the top array sees it, in cm; NaN if it does not.
    largest_hit_area : float64
    largest_hit_channel, lone_hit_channel : int64
        The second only if there is no other channel.
    """

    event: np.ndarray
    left: np.ndarray
    right: np.ndarray
    index_of_maximum: np.ndarray
    area: np.ndarray
    height: np.ndarray
    area_fraction_top: np.ndarray
    hits_fraction_top: np.ndarray
    n_hits: np.ndarray
    n_contributing_channels: np.ndarray
    n_contributing_channels_top: np.ndarray
    tight_coincidence: np.ndarray
    n_saturated_channels: np.ndarray
    n_saturated_samples: np.ndarray
    center_time: np.ndarray
    area_midpoint: np.ndarray
    hit_time_mean: np.ndarray
    hit_time_std: np.ndarray
    rise_time: np.ndarray
    range_50p_area: np.ndarray
    range_90p_area: np.ndarray
    x: np.ndarray
    y: np.ndarray
    largest_hit_area: np.ndarray
    largest_hit_channel: np.ndarray
    lone_hit_channel: np.ndarray

    @classmethod
    def none(cls) -> "Peaks":
        """Make a table without peaks."""
        return cls(
            **{each.name: np.empty(0, np.int64 if each.name == "event" else float) for each in fields(cls)}
        )

    def __len__(self) -> int:
        return len(self.event)


def find_peaks(hits: Hits, noise: np.ndarray, kind: str) -> Peaks:
    """Cluster the hits of one detector and compute what the clusters look like.

    Parameters
    ----------
    hits : Hits
    noise : numpy.ndarray of int64, shape (events, channels)
        Pulses without hits.
    kind : str
        Only in ``"tpc"`` runs noise is left out and clusters are split; in others pax has no clusters.
    """
    if not len(hits):
        return Peaks.none()
    wave = SumWaveform(hits)
    found = clusters.by_gaps(hits, wave)
    if kind == "tpc":
        found = clusters.without_noise(found, noise)
        found = splitting.split(found, wave)
    return _sorted_by_time(_properties(found, wave, TPC_TOP if kind != "muon_veto" else slice(0, 0)))


def _properties(found: Clusters, wave: SumWaveform, top: slice) -> Peaks:
    if not len(found):
        return Peaks.none()
    windows = found.windows(wave)
    light, center = windows.lights()
    if not (light > 0).all():
        # What was cut off of a hit may be undershoot only, in a part of its own.
        kept = (light > 0)[found.label]
        return _properties(Clusters(found.hits.take(kept), found.label[kept]), wave, top)
    hits, label, first, left, area = found.hits, found.label, found.first, found.left, found.area
    maximum = left + windows.maxima()
    t05, t10, t25, t50, t75, t95 = windows.area_times(_FRACTIONS).T
    above = (hits.channel >= top.start) & (hits.channel < top.stop)
    x, y = _positions(hits.take(above), label[above], len(found))
    seen = 1.0 if top.stop > top.start else np.nan
    n_hits, n_channels = np.bincount(label), found.channels()
    mean = np.bincount(label, hits.area * hits.center) / area
    variance = np.bincount(label, hits.area * (hits.center - mean[label]) ** 2) / area
    largest = np.lexsort((hits.area, label))[np.append(first[1:], len(label)) - 1]
    return Peaks(
        event=hits.event[first],
        left=left,
        right=found.right,
        index_of_maximum=maximum,
        area=area,
        height=windows.heights(),
        area_fraction_top=seen * np.bincount(label[above], hits.area[above], len(found)) / area,
        hits_fraction_top=seen * np.bincount(label[above], minlength=len(found)) / n_hits,
        n_hits=n_hits,
        n_contributing_channels=n_channels,
        n_contributing_channels_top=found.channels(above),
        tight_coincidence=found.channels(np.abs(hits.maximum - maximum[label]) <= COINCIDENCE),
        n_saturated_channels=found.channels(hits.saturated > 0),
        n_saturated_samples=np.bincount(label, hits.saturated),
        center_time=(left + center) * SAMPLE_DURATION,
        area_midpoint=left * SAMPLE_DURATION + t50,
        hit_time_mean=mean,
        hit_time_std=np.sqrt(variance),
        rise_time=t50 - t10,
        range_50p_area=t75 - t25,
        range_90p_area=t95 - t05,
        x=x,
        y=y,
        largest_hit_area=hits.area[largest],
        largest_hit_channel=hits.channel[largest],
        lone_hit_channel=np.where(n_channels == 1, hits.channel[first], _NO_CHANNEL),
    )


def _positions(hits: Hits, label: np.ndarray, n_peaks: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean place of the top tubes that saw a peak, weighted by area, twice without the far ones."""
    places = top_positions()[hits.channel]
    weight = hits.area.copy()
    for _ in range(3):
        total = np.bincount(label, weight, n_peaks)
        with np.errstate(invalid="ignore"):
            x = np.bincount(label, weight * places[:, 0], n_peaks) / total
            y = np.bincount(label, weight * places[:, 1], n_peaks) / total
            distance = np.hypot(places[:, 0] - x[label], places[:, 1] - y[label])
            typical = np.bincount(label, weight * distance, n_peaks) / total
        weight = np.where(distance <= OUTLIER * typical[label] + 1e-9, weight, 0.0)
    return x, y


def _sorted_by_time(peaks: Peaks) -> Peaks:
    order = np.lexsort((peaks.right, peaks.left, peaks.event))
    return Peaks(*(getattr(peaks, name)[order] for name in Peaks.__slots__))
