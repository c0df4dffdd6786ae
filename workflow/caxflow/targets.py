"""The one vocabulary: site, run and stage to file names, and back.

Every file target is ``{site}/{run}.{stage}``, relative to the work directory; what another version of the
processing makes beside the one that the site keeps is ``{site}/pax_{version}/{run}.{stage}``, its stage
``pax_{version}.{stage}``. Rules spell these paths literally; ``tests/workflow/test_vocabulary.py`` ties them
to this module.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

from caxflow.errors import CaxflowError

SITE = r"[a-z][a-z0-9-]{0,31}"
# Not \d, which matches the digits of every script.
RUN = r"[0-9]{6}_[0-9]{4}(?:_MV)?"
VERSION = r"v[0-9]+(?:\.[0-9]+)*"

DETECTORS = {"": "tpc", "_MV": "muon_veto"}
SUFFIXES = {detector: suffix for suffix, detector in DETECTORS.items()}

STAGES = (
    "raw.done",
    "checksum",
    "settings.json",
    "processed.root",
    "processed.checksum",
    "processed.done",
    "minitrees.done",
    "report.html",
    "raw.purged",
)

# What is stated of each version of the processing.
VERSION_STAGES = ("settings.json", "root", "done", "purged")

_SITE = re.compile(SITE)
_RUN = re.compile(r"(?P<name>[0-9]{6}_[0-9]{4})(?P<suffix>_MV)?")
_STAGE = "|".join(map(re.escape, STAGES))
_LAST = "|".join(map(re.escape, VERSION_STAGES))
_VERSIONED = re.compile(f"(?P<folder>pax_{VERSION})\\.(?P<last>{_LAST})")
_TARGET = re.compile(
    f"(?P<site>{SITE})/(?:(?P<run>{RUN})\\.(?P<stage>{_STAGE})"
    f"|(?P<folder>pax_{VERSION})/(?P<its_run>{RUN})\\.(?P<last>{_LAST}))"
)


@dataclass(frozen=True, order=True)
class Run:
    """A dataset's name: the pair that is unique in the runs database.

    Parameters
    ----------
    name : str
        Start of the run in UTC, ``yymmdd_HHMM``.
    detector : str
        ``"tpc"`` or ``"muon_veto"``.
    """

    name: str
    detector: str = "tpc"

    def __post_init__(self):
        if not re.fullmatch(r"[0-9]{6}_[0-9]{4}", self.name) or self.detector not in SUFFIXES:
            raise CaxflowError(
                f"run name {self.name!r:.60} of detector {self.detector!r:.60} is not one of ours",
                "names look like 160315_1432, detectors are tpc and muon_veto",
            )

    def __str__(self) -> str:
        return self.name + SUFFIXES[self.detector]

    @classmethod
    def parse(cls, text: str) -> "Run":
        """Read ``160315_1432`` or ``160315_1432_MV``.

        Raises
        ------
        CaxflowError
            If `text` is anything else; nothing from a database or a listing reaches a path unmatched.
        """
        match = _RUN.fullmatch(text)
        if match is None:
            raise CaxflowError(
                f"{text!r:.60} is not the name of a run",
                "names look like 160315_1432, or 160315_1432_MV for the muon veto",
            )
        return cls(match["name"], DETECTORS[match["suffix"] or ""])


class Target(NamedTuple):
    """A file target: `stage` of `run` at `site`; its text is its path."""

    site: str
    run: Run
    stage: str

    def __str__(self) -> str:
        return path(*self)


def path(site: str, run: Run, stage: str) -> str:
    """Name of the file target that states `stage` of `run` at `site`.

    Raises
    ------
    CaxflowError
        If the site's name or the stage is not part of the vocabulary.
    """
    if not _SITE.fullmatch(site):
        raise CaxflowError(f"{site!r} is not a site's name", "use lower-case letters, digits and hyphens")
    if match := _VERSIONED.fullmatch(stage):
        return f"{site}/{match['folder']}/{run}.{match['last']}"
    if stage not in STAGES:
        raise CaxflowError(f"{stage!r} is not a stage", f"the stages are {', '.join(STAGES)}")
    return f"{site}/{run}.{stage}"


def is_stage(text: str) -> bool:
    """Whether this is a stage's name, of a version or not."""
    return text in STAGES or _VERSIONED.fullmatch(text) is not None


def parse(target: str) -> Target:
    """Read a file target back into site, run and stage; the inverse of `path`."""
    match = _TARGET.fullmatch(target)
    if match is None:
        raise CaxflowError(
            f"{target!r} is not a target", "targets look like midway/160315_1432.processed.root"
        )
    if match["folder"]:
        return Target(match["site"], Run.parse(match["its_run"]), f"{match['folder']}.{match['last']}")
    return Target(match["site"], Run.parse(match["run"]), match["stage"])
