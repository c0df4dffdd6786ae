"""Rounds of `chaos`, a few of them or, under the mark soak, many.

CAXFLOW_SOAK_ROUNDS is their number, CAXFLOW_SOAK_SEED the seed of the first; a failure says both its own seed
and what the round did. ``CAXFLOW_SOAK_SEED=17 CAXFLOW_SOAK_ROUNDS=1 pytest -m soak`` plays that one again.
"""

import os
import time
from contextlib import ExitStack

import pytest

from chaos import Round, World


@pytest.fixture(scope="module")
def world(tmp_path_factory, require):
    require("sshd")
    require("ssh")
    with ExitStack() as stack:
        yield World(stack, tmp_path_factory.mktemp("chaos"))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_rounds(world, seed):
    Round(world, seed).play()


@pytest.mark.soak
def test_many_random_rounds(world):
    """All are played, whatever fails; the failures come at the end."""
    first = int(os.environ.get("CAXFLOW_SOAK_SEED", time.time_ns() % 1_000_000))
    rounds, failures = int(os.environ.get("CAXFLOW_SOAK_ROUNDS", "300")), []
    begun = time.monotonic()
    for seed in range(first, first + rounds):
        this, ended = Round(world, seed), "good"
        try:
            this.play()
        except AssertionError as error:
            ended = "failed"
            failures.append("\n".join([str(error), *error.__notes__]))
        print(f"{time.monotonic() - begun:.0f} s, seed {seed}: {ended}", *this.story, sep="\n  ", flush=True)
    assert not failures, f"{len(failures)} of {rounds} rounds failed:\n\n" + "\n\n".join(failures)
