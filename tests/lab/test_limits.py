"""A site's bandwidth limit holds for all that passes, by every method, and for questions as for copies."""

import os
import time
import zipfile
from types import SimpleNamespace

import pytest

from caxflow import transfer
from caxflow.config import Access, Site, reach
from caxflow.files.manifest import take
from caxflow.transfer import Place, limiter

HERE = Place("here")
SIZE, RATE = 2_000_000, 8e6
METHODS = ("stream", "stream-paramiko", "scp", "scp-paramiko", "local")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source") / "160315_1432"
    folder.mkdir()
    for number in range(4):
        with zipfile.ZipFile(folder / f"XENON1T-{number}.zip", "w") as archive:
            archive.writestr("0", os.urandom(SIZE // 4))
    return folder


@pytest.fixture
def charged(monkeypatch):
    """How many bytes limits have counted since it was asked last; that took its time, or the test fails."""
    counts, began = [], [time.monotonic()]
    count_in = limiter.Limiter.__call__

    def counting(self, count, **options):
        counts.append(count)
        return count_in(self, count, **options)

    def told() -> int:
        passed, seconds = sum(counts), time.monotonic() - began[0]
        # A login is not held back, what goes at once is not either, and time not used before is given.
        assert seconds >= passed / RATE - 0.4 - 200_000 / RATE
        counts.clear()
        began[0] = time.monotonic()
        return passed

    monkeypatch.setattr(limiter.Limiter, "__call__", counting)
    return told


@pytest.fixture(params=METHODS)
def place(request, lab):
    """A site with a limit, by each method and client."""
    method, _, client = request.param.partition("-")
    if method == "local":
        return Place("far", "local", bandwidth=RATE)
    options = {"ssh_config": str(lab.ssh_config), "client": client or "openssh"}
    return Place("far", method, host="far", bandwidth=RATE, **options)


def test_copies_and_readings_are_held_back(place, dataset, tmp_path, charged):
    """All bytes count, those that are read back, too."""
    reads = place.method != "stream"  # what is read there passes, and is not only hashed
    about = {1: (SIZE, 1.3 * SIZE), 2: (2 * SIZE, 2.5 * SIZE), 0: (0, 0.3 * SIZE)}

    def least_and_most(passes):
        least, most = about[passes]
        return least <= charged() <= most + 300_000

    copied = transfer.copy(HERE, dataset, place, tmp_path / "pushed")
    assert least_and_most(2 if reads else 1), "push"
    transfer.copy(place, dataset, HERE, tmp_path / "pulled", expected=copied.manifest)
    assert least_and_most(1), "pull"
    transfer.copy(HERE, dataset, place, tmp_path / "pushed", expected=copied.manifest)
    assert least_and_most(1 if reads else 0), "what is there already is read"
    assert transfer.take_manifest(place, dataset) == take(dataset)
    assert least_and_most(1 if reads else 0), "manifest"
    assert transfer.examine(place, dataset).faults == []
    assert least_and_most(1 if reads else 0), "examination"


def test_a_relay_is_held_back_at_both_ends(lab, dataset, tmp_path, charged):
    options = {"ssh_config": str(lab.ssh_config), "bandwidth": RATE}
    for method in ("stream", "scp"):
        source, destination = (Place(name, method, host=name, **options) for name in ("far", "other"))
        transfer.copy(source, dataset, destination, tmp_path / method)
        passed = charged()
        assert passed >= 2 * SIZE


@pytest.mark.soak
def test_a_slow_limit_lets_the_far_end_wait(lab, dataset, tmp_path):
    """Less passes in its time-out than it hands out at once."""
    place = Place("far", "stream", host="far", ssh_config=str(lab.ssh_config), bandwidth=80e3, timeout=2)
    transfer.copy(place, dataset, HERE, tmp_path / "copy")
    assert take(tmp_path / "copy") == take(dataset)


def test_every_way_to_a_site_has_its_limits(tmp_path):
    """Whoever asks: commands as well as jobs, and where the site's file system is mounted here."""
    here = Site("here", "here-host", {}, Access(bandwidth=1), work_dir=str(tmp_path))
    settings = SimpleNamespace(here=here)
    for method in ("stream", "scp", "local"):
        site = Site("far", "far-host", {}, Access(method, host="far", bandwidth=2.5, connections=3))
        found = reach.place(settings, site)
        assert (found.method, found.bandwidth) == (method, 2_500_000)
        assert found.ledger == f"{tmp_path}/.caxflow/bandwidth.far"
    assert reach.place(settings, here).bandwidth is None, "what is here is used by those who are here"
