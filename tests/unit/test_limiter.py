"""A bandwidth limit, of one transfer and of several that share it."""

import pytest

from caxflow.transfer import limiter
from caxflow.transfer.limiter import Limiter


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until `sleep`; how long each sleep was."""

    class Clock:
        now, slept = 1000.0, ()

        def sleep(self, seconds):
            self.now += seconds
            self.slept += (round(seconds, 3),)

    clock = Clock()
    monkeypatch.setattr(limiter.time, "monotonic", lambda: clock.now)
    return clock


def test_bytes_pass_at_the_rate_and_pauses_are_not_made_up_for(clock):
    limit = Limiter(10, clock.sleep)
    for _ in range(3):
        limit(20)
    assert clock.slept == (1.9, 2.0)
    clock.now += 3600
    limit(20)
    limit(20)
    assert clock.slept == (1.9, 2.0, 1.9)


def test_transfers_share_the_limit_of_a_site(clock, tmp_path):
    waits = []
    one, two = (Limiter(10, waits.append, str(tmp_path / "ledger")) for _ in range(2))
    for limit in (one, two, one, two):
        limit(20)
    assert waits == pytest.approx([1.9, 3.9, 5.9])


@pytest.mark.parametrize(
    "stated", [b"", b"short", b"\xff" * 8, limiter._TIME.pack(1e9), limiter._TIME.pack(5.0)]
)
def test_what_another_boot_left_in_the_ledger_counts_for_nothing(clock, tmp_path, stated):
    ledger = tmp_path / "ledger"
    ledger.write_bytes(stated)
    limit = Limiter(10, clock.sleep, str(ledger))
    limit(20)
    limit(20)
    assert clock.slept == (1.9,)
