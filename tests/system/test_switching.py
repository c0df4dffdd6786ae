"""docs/switching.md, step by step: from a cax.json and cax's own documents to the first verified copy."""

import datetime
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from caxflow.simulate import run_document, simulate_run
from slurm import ACCOUNTING_PROGRAMS, PROGRAMS, Slurm

ROOT = Path(__file__).resolve().parents[2]
DAY = datetime.datetime(2016, 3, 15, 15)


def checksumdir(folder):
    """What cax wrote: sha512 over the sorted sha512 of all files' contents, as checksumdir has it."""
    digests = sorted(hashlib.sha512(path.read_bytes()).hexdigest() for path in folder.iterdir())
    return hashlib.sha512("".join(digests).encode()).hexdigest()


class Guide:
    """Types what the guide says."""

    def __init__(self, folder, slurm):
        self.folder = folder
        path = f"{Path(sys.executable).parent}{os.pathsep}{slurm.path}"
        more = {"PATH": path, "PYTHONPATH": str(ROOT / "workflow")}
        self.environment = os.environ | slurm.environment | more
        self.environment |= {"XDG_CONFIG_HOME": str(folder / "xdg")}

    def type(self, *words):
        done = subprocess.run(
            words, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=300, check=False
        )
        said = done.stdout + done.stderr
        assert "Traceback" not in said, said
        assert done.returncode == 0, said
        return said

    def caxflow(self, *words):
        return self.type(sys.executable, "-m", "caxflow.cli", *words)

    def snakemake(self, *words):
        return self.type("snakemake", "--profile", str(self.folder / "profiles" / "midway"), *words)


@pytest.fixture
def slurm(tmp_path, require):
    """What processing at Midway goes to, with its account: the imported profile is taken as it is."""
    for program in (*PROGRAMS, *ACCOUNTING_PROGRAMS):
        require(program)
    with Slurm(tmp_path / "slurm", accounting=True) as made:
        yield made


@pytest.fixture
def cax_json(tmp_path, sites):
    """cax's configuration of this experiment, with a host that is tape and the odd trailing slash."""
    hosts = [
        {
            "name": "xe1t-datamanager",
            "method": "rsync",
            "hostname": "lngs",
            "dir_raw": f"{sites['lngs'].root}/raw/",
            "dir_processed": None,
            "upload_options": None,
            "download_options": None,
        },
        {
            "name": "midway-login1",
            "method": "rsync",
            "hostname": "midway",
            "dir_raw": f"{sites['midway'].root}/raw",
            "dir_processed": f"{sites['midway'].root}/processed",
            "data_type": ["raw", "processed"],
            "upload_options": [],
            "download_options": ["xe1t-datamanager"],
        },
        {"name": "tsm-server", "method": "tsm", "hostname": None, "dir_raw": None, "upload_options": None},
    ]
    path = tmp_path / "cax.json"
    path.write_text(json.dumps(hosts))
    return path


@pytest.fixture
def dump(sites, database):
    """Documents as cax left them: old checksums, missing keys, a list for a date, rows of others."""
    for site in ("lngs", "midway"):
        for kind in ("raw", "processed"):
            (sites[site].root / kind).mkdir(exist_ok=True)
    made = []
    for name in ("160315_1432", "160315_1608"):
        raw = sites["lngs"].root / "raw" / name
        simulate_run(raw, name, kind="tpc", number=int(name[-4:]), events=8, events_per_file=4, seed=1)
        document = run_document(
            name,
            number=int(name[-4:]),
            events=8,
            events_per_file=4,
            locations={"xe1t-datamanager": str(raw)},
        )
        document["data"][0] |= {"checksum": checksumdir(raw), "creation_time": [DAY]}
        document["data"].append({"type": "raw", "host": "tsm-server", "status": "error", "location": "n/a"})
        document["data"].append(
            {"type": "untriggered", "host": "reader", "status": "transferred", "location": "mongodb://eb0"}
        )
        made.append(document)
    # cax has copied one of them already.
    here = sites["midway"].root / "raw" / "160315_1432"
    subprocess.run(["cp", "-r", sites["lngs"].root / "raw" / "160315_1432", here], check=True)
    copied = dict(made[0]["data"][0]) | {"host": "midway-login1", "location": str(here)}
    made[0]["data"].append(copied)
    made.append({"name": "150101_0000", "detector": "tpc", "number": 1, "start": DAY})
    made.append({"name": "150102_0000", "detector": "tpc", "number": 2, "start": DAY, "end": DAY, "data": []})
    database["runs_new"].insert_many(made)
    return database["runs_new"]


def test_from_cax_to_the_first_verified_copy(tmp_path, sites, slurm, cax_json, dump, database_uri, database):
    guide = Guide(tmp_path, slurm)
    before = list(dump.find().sort("name"))

    # 1. Sites and profile out of cax.json.
    names = ["--name", "midway-login1=midway", "xe1t-datamanager=lngs"]
    folders = ["--sites", str(tmp_path / "sites"), "--profiles", str(tmp_path / "profiles")]
    said = guide.caxflow(
        "import", str(cax_json), "--here", "midway-login1", *names, "--processor", "mini_v1", *folders
    )
    assert "tsm-server: tape" in said

    # 2. What a human adds: where the database is, and here the test's own SSH configuration.
    profile = tmp_path / "profiles" / "midway" / "caxflow.yaml"
    rundb = {"uri": database_uri, "database": database.name}
    profile.write_text(yaml.safe_dump(yaml.safe_load(profile.read_text()) | {"rundb": rundb}))
    for site in ("lngs", "midway"):
        path = tmp_path / "sites" / f"{site}.yaml"
        content = yaml.safe_load(path.read_text())
        content["access"] |= {"ssh_config": str(sites.ssh_config)}
        path.write_text(yaml.safe_dump(content))
    options = ["--profile", str(tmp_path / "profiles" / "midway")]

    # 3. Beside the daemon, reading only.
    said = guide.caxflow("shadow", str(cax_json), *options)
    assert said.startswith("4 runs: ")
    assert "Traceback" not in said
    said = guide.snakemake("-n", "all")
    assert "1 run to work on" in said or "2 runs to work on" in said
    assert list(dump.find().sort("name")) == before
    assert database.list_collection_names() == ["runs_new"]

    # 4. Once the daemon is stopped: the indexes, the markers of the data roots, then the work.
    guide.caxflow("rundb", "init", *options)
    guide.caxflow("doctor", "--mark-roots", *options)
    guide.snakemake("all")

    document = dump.find_one({"name": "160315_1608"})
    entries = {(entry["type"], entry["host"]): entry for entry in document["data"]}
    copy = entries["raw", "midway-login1"]
    assert copy["status"] == "transferred"
    assert copy["manifest"] == entries["raw", "xe1t-datamanager"]["manifest"]
    assert copy["caxflow"]["verified"]
    # What cax wrote stays for its other programs.
    old = entries["raw", "xe1t-datamanager"]
    assert old["checksum"] == checksumdir(Path(old["location"]))
    assert entries["raw", "tsm-server"]["status"] == "error"
    assert entries["processed", "midway-login1"]["status"] == "transferred"
    # A profile that processes on a batch system stays one.
    assert sorted(job["about"] for job in slurm.jobs()) == [
        f"process_raw {name}" for name in ("160315_1432", "160315_1608")
    ]
    # The copy that cax made is taken as it is.
    kept = dump.find_one({"name": "160315_1432"})["data"]
    assert [
        entry["status"] for entry in kept if entry["host"] == "midway-login1" and entry["type"] == "raw"
    ] == ["transferred"]
    work = sites["midway"].root / "caxflow"
    verified = subprocess.run(
        ["xxhsum", "-c", work / "midway" / "160315_1608.checksum"],
        cwd=copy["location"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stdout

    # 5. And again: nothing is left to do; the page shows it.
    assert "nothing to do at midway" in guide.snakemake("-n", "all")
    guide.caxflow("page", *options, str(tmp_path / "page"))
    assert "160315_1608" in (tmp_path / "page" / "data" / "days" / "160315.js").read_text()
