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
    read : bool
        Whether they must have been read from here, whatever the runs database says of them.
    """

    copies: int = 2
    within: datetime.timedelta = datetime.timedelta(days=3)
    read: bool = False


@dataclass(frozen=True)
class Purge:
    """Which copies here are removed to make room.

    Parameters
    ----------
    after : timedelta or None
        Age of the run, from its start, at which its raw copy goes; None: it stays.
    superseded : timedelta or None
        How long ago the processed file of the version that the site keeps was made, when those of older
        versions go; None: they stay.
    demand : Demand
        What must be known of other raw copies; its time also holds for the processed file that stays.
    processed : bool
        Whether the run must have been processed here before its raw copy goes, where this site makes
        processed files.
    runs, bytes : int
        The most that one call removes.
    """

    after: datetime.timedelta | None = None
    superseded: datetime.timedelta | None = None
    demand: Demand = field(default_factory=Demand)
    processed: bool = True
    runs: int = 100
    bytes: int = 10**13

    def __str__(self) -> str:
        """In the words of the configuration."""
        keys = {"after_days": self.after, "superseded_after_days": self.superseded}
        keys |= {"copies": self.demand.copies, "verified_within_days": self.demand.within}
        keys |= {"processed": str(self.processed).lower()}
        keys |= {"evidence": "read"} if self.demand.read else {}
        plain = {
            key: f"{value / datetime.timedelta(days=1):g}" if isinstance(value, datetime.timedelta) else value
            for key, value in keys.items()
            if value is not None
        }
        return ", ".join(f"{key}: {value}" for key, value in plain.items())


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
    most, own = keys.get("at_most", {}), Purge()
    return Purge(
        after=_days(keys, "after_days"),
        superseded=_days(keys, "superseded_after_days"),
        demand=Demand(
            copies=keys.get("copies", own.demand.copies),
            within=datetime.timedelta(
                days=keys.get("verified_within_days", own.demand.within / datetime.timedelta(days=1))
            ),
            read=keys.get("evidence", "rows") == "read",
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


def _days(keys: Mapping, key: str) -> datetime.timedelta | None:
    return datetime.timedelta(days=keys[key]) if key in keys else None
