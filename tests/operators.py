"""A configuration of three sites whose folders are this machine's, and documents to look at."""

import datetime
from pathlib import Path

import yaml

from caxflow import config, receipts
from caxflow.files.manifest import Entry, Manifest
from caxflow.targets import Run, Target
from caxflow.workdir import journal
from copies import mark

RUN = Run("160315_1432")
HOSTS = {"lngs": "xe1t-datamanager", "midway": "midway-login1", "tegner": "tegner-login-1"}
NOW = datetime.datetime(2016, 3, 16, 12, 0)


def configured(folder: Path, uri: str = "mongodb://127.0.0.1:1", database: str = "run", **overrides):
    """Write and read the configuration; midway is here, its work directory exists."""
    for site, host in HOSTS.items():
        document = {
            "host": host,
            "roots": {"raw": f"{folder}/{site}/raw"},
            "work_dir": f"{folder}/work/{site}",
        }
        if site == "lngs":
            document["origin"] = True
        else:
            document["roots"]["processed"] = f"{folder}/{site}/processed"
            document["processed"] = {"version": "mini_v1", "make": site == "midway"}
        document |= {"midway": {"pull_from": ["lngs"], "push_to": ["tegner"]}}.get(site, {})
        mark(site, document["roots"])
        Path(document["work_dir"]).mkdir(parents=True, exist_ok=True)
        (folder / "config/sites").mkdir(parents=True, exist_ok=True)
        (folder / f"config/sites/{site}.yaml").write_text(yaml.safe_dump(document))
    rundb = {"uri": uri, "database": database, "timeout": 2}
    main = {"rundb": rundb, "processors": {"mini_v1": {"kind": "mini"}}, "select": {"without_tags": ["bad"]}}
    (folder / "config/config.yaml").write_text(yaml.safe_dump(main))
    return config.load({"site": "midway"} | overrides, folder / "config")


def document(folder: Path, *entries: dict, run: Run = RUN, **more) -> dict:
    """A run document with a raw copy at lngs, and `entries`."""
    born = raw(folder, "lngs", run=run)
    return {
        "name": run.name,
        "detector": run.detector,
        "number": 1432,
        "start": datetime.datetime(2016, 3, 15, 14, 32),
        "end": datetime.datetime(2016, 3, 15, 15, 32),
        "source": {"type": "none"},
        "reader": {"self_trigger": True, "ini": {"write_mode": 2}},
        "trigger": {"events_built": 600},
        "processor": {
            "DEFAULT": {"gains": [1e6], "drift_velocity_liquid": 1e-4, "electron_lifetime_liquid": 5e5}
        },
        "raw_size_byte": 41_234_567_890,
        "data": [born, *entries],
    } | more


def raw(folder: Path, site: str, status: str = "transferred", *, run: Run = RUN, **keys) -> dict:
    """The entry of a raw copy, which lies in its place."""
    location = f"{folder}/{site}/raw/{run}"
    Path(location).mkdir(parents=True, exist_ok=True)
    return {"type": "raw", "host": HOSTS[site], "status": status, "location": location} | keys


MANIFEST = Manifest("xxh128", (Entry("XENON1T-1432-000000000-000000999-000001000.zip", 41_234, "0" * 32),))


def state(work_dir: Path, folder: Path, site: str, stage: str = "raw.done", *, run: Run = RUN) -> Target:
    """Write a receipt about a raw copy, or a proof that it was read again."""
    target = Target(site, run, stage)
    if stage == "checksum":
        receipts.write(work_dir / str(target), MANIFEST.to_sums())
    else:
        location = f"{folder}/{site}/raw/{run}"
        entry = {"kind": "raw", "host": HOSTS[site], "version": None, "location": location}
        facts = {"location": location, "bytes": MANIFEST.size, "manifest": MANIFEST.to_json()}
        facts["entry"] = entry | {"status": "verifying"}
        receipts.write(work_dir / str(target), receipts.statement(target, **facts))
    return target


def fail(work_dir: Path, site: str, stage: str, reason: str, *, run: Run = RUN, times: int = 1) -> None:
    """Let the journal know a failure."""
    for _ in range(times):
        journal.fail(work_dir, Target(site, run, stage), reason)
