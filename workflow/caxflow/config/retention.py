"""How long copies are kept, and how often they are read again: values out of ``config.yaml``."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Demand:
    """What must be known of other copies before one may go.

    Parameters
    ----------
    copies : int
        So many others, at least one.
    within : timedelta
        Since when their bytes must have been read again.
    """

    copies: int = 2
    within: datetime.timedelta = datetime.timedelta(days=3)


@dataclass(frozen=True)
class Purge:
    """Which raw copies here are removed to make room.

    Parameters
    ----------
    after : timedelta
        Age of the run, from its start.
    demand : Demand
    processed : bool
        Whether the run must have been processed here first, where this site makes processed files.
    runs, bytes : int
        The most that one call removes.
    """

    after: datetime.timedelta
    demand: Demand = field(default_factory=Demand)
    processed: bool = True
    runs: int = 100
    bytes: int = 10**13


@dataclass(frozen=True)
class Scrub:
    """How copies here are read again: those not read for `every`, at most so much in one call."""

    every: datetime.timedelta = datetime.timedelta(days=30)
    bytes: int = 10**13
    time: datetime.timedelta = datetime.timedelta(hours=5)


def demand(purge: Purge | None) -> Demand:
    """What is demanded of other copies; without a policy, the same as that demands by default."""
    return purge.demand if purge else Demand()


def read_purge(keys: Mapping) -> Purge:
    """Read the mapping ``purge`` of the configuration."""
    most, own = keys.get("at_most", {}), Purge(datetime.timedelta())
    return Purge(
        after=datetime.timedelta(days=keys["after_days"]),
        demand=Demand(
            copies=keys.get("copies", own.demand.copies),
            within=datetime.timedelta(
                days=keys.get("verified_within_days", own.demand.within / datetime.timedelta(days=1))
            ),
        ),
        processed=keys.get("processed", own.processed),
        runs=most.get("runs", own.runs),
        bytes=int(most.get("bytes", own.bytes)),
    )


def read_scrub(keys: Mapping) -> Scrub:
    """Read the mapping ``scrub`` of the configuration."""
    most, own = keys.get("at_most", {}), Scrub()
    return Scrub(
        every=datetime.timedelta(days=keys["every_days"]) if "every_days" in keys else own.every,
        bytes=int(most.get("bytes", own.bytes)),
        time=datetime.timedelta(minutes=most["minutes"]) if "minutes" in most else own.time,
    )
