"""A host of ``cax.json`` that becomes a site: what its lines are in a site's file and in a profile."""

import json
import math
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from caxflow.cax import BATCH_HOSTS, ORIGIN
from caxflow.errors import CaxflowError
from caxflow.processing.minitrees import EMBEDDED
from caxflow.switching.caxtasks import TASKS

KINDS = ("raw", "processed", "minitrees")
ACCESS = {"hostname": "host", "username": "user", "nstreams": "connections"}

# Keys that need no translation, or whose matter is settled elsewhere.
_HINTS = {
    "grid_cert": "grid storage is no site here",
    "dir_tsm": "tape is no site here",
    "pax_version_purge": "old versions of processed files go by purge: {superseded_after_days: …}",
    "pax_processing_versions": "processed.version is the one of the site",
}
_KNOWN = {"name", "method", *ACCESS, *(f"dir_{kind}" for kind in KINDS)}
_KNOWN |= {"upload_options", "download_options", "data_type", "purge", "dataset_list"}


@dataclass
class Imported:
    """What came of a ``cax.json``.

    Parameters
    ----------
    sites : dict
        By site, the content of its file.
    here : dict
        What the profile of the site that is here says over ``config.yaml``.
    notes : list of str
        What was not translated, and what to do about it.
    """

    sites: dict[str, dict[str, Any]] = field(default_factory=dict)
    here: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def note(self, host: str, what: str) -> None:
        """Say what came of a line about a host."""
        self.notes.append(f"{host}: {what}")


@dataclass
class Host:
    """A host that becomes a site.

    Parameters
    ----------
    entry : mapping
        Of ``cax.json``.
    base : dict
        Host, access and roots of the site.
    sites : mapping
        Names of all sites by cax's host.
    """

    entry: Mapping
    base: dict[str, Any]
    sites: Mapping[str, str]
    made: Imported
    is_here: bool = False

    def note(self, what: str) -> None:
        """Say what came of a line about this host."""
        self.made.note(self.entry["name"], what)

    def does(self, task: str) -> bool:
        """Whether the host's `task_list` has a task; cax does all where there is none."""
        return not self.entry.get("task_list") or task in self.listed

    @property
    def listed(self) -> list[str]:
        """The tasks of cax that `task_list` has; cax looks for their names in whatever it is."""
        given = self.entry.get("task_list")
        return [task for task in TASKS if isinstance(given, str | list | dict) and task in given]

    @property
    def makes(self) -> bool:
        """Whether cax processed there: by batch scripts, which it has of two hosts."""
        batch = self.entry["name"] in BATCH_HOSTS and self.does("ProcessBatchQueue")
        return batch and "processed" in self.base["roots"]

    @property
    def makes_minitrees(self) -> bool:
        """Whether cax had hax make minitrees there, of what it processed."""
        return self.makes and "minitrees" in self.base["roots"] and self.does("ProcessBatchQueueHax")

    def site(self, version: str | None) -> dict[str, Any]:
        """Return the content of the site's file."""
        access, roots = self.base["access"], self.base["roots"]
        site: dict[str, Any] = {"host": self.base["host"]}
        if self.entry["name"] == ORIGIN:
            site["origin"] = True
        site |= {"access": access, "roots": roots}
        site["work_dir"] = posixpath.join(posixpath.dirname(roots["raw"]), "caxflow")
        if access["method"] == "local":
            self.note("no hostname; its data are taken to be on a shared file system")
        elif access["method"] == "scp":
            self.note("method scp is kept; stream is faster where a python3 can be run there")
        site |= self.partners("pull_from", "download_options", "CopyPull")
        site |= self.partners("push_to", "upload_options", "CopyPush")
        if "processed" in roots:
            site |= self.processed(version)
        return site

    def partners(self, key: str, option: str, task: str) -> dict[str, list[str]]:
        """Return the sites that a host copies from, or to."""
        given = self.entry.get(option)
        if given in (None, []):
            return {}
        if not isinstance(given, list):
            self.note(f"{option} {given!r} is left out: it is no list of hosts")
            return {}
        if not self.does(task):
            self.note(f"{option} is left out, since its task_list has no {task}; here it is {key}")
            return {}
        known = []
        for partner in given:
            if not isinstance(partner, str) or partner not in self.sites:
                self.note(f"{option} names {partner}, which is no site; left out")
            elif partner == self.entry["name"]:
                self.note(f"{option} names the host itself; left out")
            else:
                known.append(self.sites[partner])
        return {key: list(dict.fromkeys(known))} if known else {}

    def processed(self, version: str | None) -> dict[str, Any]:
        """Return what a site with a folder for processed files keeps and makes."""
        if not version:
            what = "cax processed with the pax it found" if self.makes else "cax kept processed files"
            self.note(f"{what}; add processed: {{version: …}} to its file, or import with --processor")
            return {}
        if not self.makes:
            why = (
                "cax has no batch script for it"
                if self.does("ProcessBatchQueue")
                else "its task_list says so"
            )
            self.note(f"processed.make is false, since cax did not process there: {why}")
        made: dict[str, Any] = {"processed": {"version": version, "make": self.makes}}
        if self.makes_minitrees:
            made["minitrees"] = {"make": sorted(EMBEDDED)}
            self.note(
                f"of cax's minitrees {' and '.join(sorted(EMBEDDED))} are made; the others of hax need "
                "minitrees: {make: […], command: …}, see config/README.md"
            )
        return made

    def own(self) -> Iterator[tuple[str, Any]]:
        """Yield what holds only where this host's own workflow runs."""
        if kinds := self.kinds():
            yield "kinds", kinds
        days = self.entry.get("purge")
        if days is not None and not self.does("BufferPurger"):
            self.note(f"purge {days} is left out: its task_list has no BufferPurger, and cax removed nothing")
        elif days is not None and not _is_days(days):
            self.note(f"purge {days!r} is left out: it is no number of days")
        elif days is not None:
            yield "purge", {"after_days": days}
        if runs := self.runs():
            yield "runs", runs

    def note_here(self) -> None:
        """Say what the profile of this host has that its lines do not, and the other way round."""
        if "kinds" not in self.made.here:
            why = (
                "and cax copied nothing" if self.entry.get("data_type") else "and cax ended before it copied"
            )
            self.note(f"data_type names no kind, {why}; without kinds in its profile all are looked after")
        if "purge" in self.made.here:
            self.note(
                "purge removes on evidence: good copies elsewhere, read again lately (config/README.md)"
            )
        work_dir = self.made.sites[self.sites[self.entry["name"]]]["work_dir"]
        self.note(f"work_dir {work_dir} is beside dir_raw, as cax.json has none; its file has it")

    def kinds(self) -> list[str]:
        """Return the kinds of data: what cax copied, and what it made without being told so there."""
        given = self.entry.get("data_type")
        if given is None:
            return []
        if not isinstance(given, list):
            self.note(f"data_type {given!r} is left out: it is no list of kinds")
            return []
        for kind in given:
            if kind not in KINDS[:2]:
                self.note(f"data_type has {kind!r}, which cax does not copy; left out")
        wanted = {"raw": "raw" in given, "processed": "processed" in given or self.makes}
        wanted["minitrees"] = self.makes_minitrees
        return [kind for kind, is_wanted in wanted.items() if is_wanted]

    def runs(self) -> list[str]:
        """Return the runs of `dataset_list`, of both detectors, as cax compares names alone."""
        given = self.entry.get("dataset_list")
        if given in (None, []):
            return []
        names = given if isinstance(given, list) else []
        found = [name for name in names if isinstance(name, str) and re.fullmatch(r"\d{6}_\d{4}", name)]
        for name in names:
            if name not in found:
                self.note(f"dataset_list has {name!r}, which is no name of cax's runs; left out")
        if not found and self.is_here:
            raise CaxflowError(
                f"{self.entry['name']}: dataset_list {json.dumps(given)} names no run, and none means all",
                "write names as 160315_1432 into cax.json, or take the key out",
            )
        if not found:
            self.note(f"dataset_list {json.dumps(given)} names no run; left out")
        return [run for name in found for run in (name, f"{name}_MV")]

    def left_over(self) -> None:
        """Name the keys that have no translation."""
        for key, value in self.entry.items():
            if value in (None, [], "") or key in _KNOWN:
                continue
            if key == "task_list":
                self.tasks(value)
            elif key.startswith("rucio"):
                self.note(f"{key} is not used: Rucio is no site here")
            else:
                why = _HINTS.get(key, "cax 5.2 does not read it either")
                self.note(f"{key} {json.dumps(value)} is not used: {why}")
        if self.base["access"]["method"] == "local":
            for key in ("username", "nstreams"):
                if self.entry.get(key) is not None:
                    self.note(f"{key} is not used: there is no hostname")

    def tasks(self, given: Any) -> None:
        """Say what a list of tasks means."""
        if self.listed:
            self.note(
                f"task_list {', '.join(self.listed)}: name targets or rules instead (--until copy_raw); "
                "docs/switching.md has each task"
            )
        for task in given if isinstance(given, list) else [given]:
            if not self.listed or (isinstance(given, list) and task not in self.listed):
                self.note(f"task_list has {json.dumps(task)}, which is none of the tasks of cax 5.2's daemon")


def _is_days(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return number and 0 <= value <= 36500
