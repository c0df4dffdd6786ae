"""Planning as the experiment grows: many runs in the database, few of them actionable.

``python benchmarks/scale.py --documents 100000 --actionable 200 --json`` prints

* ``plan_s``, ``plan_cpu_s``, ``peak_mb``: ``snakemake -n all``, from the command to its end: wall time, CPU
  and largest resident memory;
* ``query_s``: asking the database and deciding, inside it;
* ``server_s``: the database's share of that: the same queries, their documents thrown away;
* ``init_s``: making the indexes. The documents carry the marks that ``caxflow rundb init`` sets; with
  ``--first-pass`` it sets them, and this is how long that took;
* ``loop_s``: a peer, see below.

``--curves DIR`` measures 1k, 10k, 100k, or what ``--sizes`` names, beside two peers, and draws them.
``--overhead K`` copies K small runs for real, between two folders of this machine, and prints
``cpu_s_per_job`` and the files Snakemake keeps of them. ``--backlog K`` registers, copies and verifies as
many in batches, a call each, after ``--history H`` finished runs, and prints what each call took.

The peers, on the same documents:

* ``plain``: a Snakemake workflow that names every run as a target, as a workflow without a planner would;
* ``loop``: one query for each run, and that for each of 14 tasks, as cax does every minute. Timed on at most
  2000 runs, and multiplied.

Without ``CAXFLOW_TEST_MONGODB`` the database is SecantusDB, whose share stands in ``server_s``.
"""

import argparse
import contextlib
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import yaml

HOME = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HOME / "workflow"))

from caxflow import config  # noqa: E402
from caxflow.demo.database import DatabaseServer  # noqa: E402
from caxflow.planning import decisions, plan  # noqa: E402
from caxflow.planning.standing import Standings  # noqa: E402
from caxflow.rundb import RunsDB, marks  # noqa: E402

TASKS = 14  # that cax 5.2 starts with
FIRST = datetime.datetime(2015, 1, 1)
FAR = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) + datetime.timedelta(days=20)
LATER = datetime.datetime(2017, 1, 1)  # the runs that are really moved
RAW, PROCESSED = {"lngs": "/data/lngs/raw", "midway": "/data/midway/raw"}, "/data/midway/processed"


def documents(
    count: int, actionable: int, mark: dict | None = None, *, waiting: int = 0, slim: bool = False
) -> Iterator[dict]:
    """Run documents with four entries each; the newest `actionable` have no copy at midway, and no `mark`.

    The oldest `waiting` have no copy anywhere that midway may pull from, and wait for ever. A `slim` document
    has one gain in place of 260, of which planning looks at one.
    """
    gains = [2.0e6 + 1000 * channel for channel in range(1 if slim else 260)]
    for index in range(count):
        done = waiting <= index < count - actionable
        start = FIRST + datetime.timedelta(minutes=index)
        name = f"{start:%y%m%d_%H%M}"
        end = start + datetime.timedelta(minutes=1)
        yield {
            "name": name,
            "number": index,
            "detector": "tpc",
            "user": "daq",
            "start": start,
            "end": end,
            "source": {"type": ("none", "Rn220", "Kr83m")[index % 3]},
            "tags": [{"name": "_sciencerun0", "user": "daq", "date": end}],
            "reader": {"self_trigger": True, "ini": {"name": "background_stable", "write_mode": 2}},
            "trigger": {"events_built": 31877, "status": "deleted", "ended": True},
            "processor": {
                "DEFAULT": {
                    "gains": gains,
                    "drift_velocity_liquid": 1.44e-4,
                    "electron_lifetime_liquid": 452000.0,
                },
                "correction_versions": {"AddGains": "5.0"},
            },
            "raw_size_byte": 41_234_567_890,
            "data": list(entries(name, end, done, known=index >= waiting)),
        } | (mark if mark and done else {})


def settled(settings: config.Settings) -> dict:
    """The mark of a document for which nothing remains to be done."""
    return {"caxflow": {"settled": {"midway": marks.text(plan.policy(settings), marks.SETTLED, FAR)}}}


def entries(name: str, end: datetime.datetime, done: bool, known: bool = True) -> Iterator[dict]:
    """Four entries: of a run that is `done`, those that settle it at midway; `known` at its origin or not."""
    made = {"status": "transferred", "creation_time": end}
    untriggered = {"location": "mongodb://eb0:27017/untriggered", "collection": name}
    yield {"type": "untriggered", "host": "reader", **made, **untriggered}
    raw = {"type": "raw", **made, "checksum": "c" * 128, "manifest": f"xxh128:{'0' * 32}"}
    origin = "xe1t-datamanager" if known else "xe1t-tape"
    yield {**raw, "host": origin, "location": f"{RAW['lngs']}/{name}"}
    processed = {"type": "processed", **made, "checksum": "c" * 128, "pax_version": "v1", "size": 10**9}
    if done:
        yield {**raw, "host": "midway-login1", "location": f"{RAW['midway']}/{name}"}
        file = f"{PROCESSED}/pax_v1/{name}.root"
        yield {**processed, "host": "midway-login1", "location": file}
    else:
        yield {"type": "raw", "host": "rucio-catalogue", **made, "location": f"x1t_SR000_{name}_tpc:raw"}
        yield {**processed, "host": "osg", "location": f"/stash/{name}.root"}


@contextlib.contextmanager
def experiment(
    count: int, actionable: int, marked: bool, **kind: Any
) -> Iterator[tuple[Path, config.Settings]]:
    """A profile's folder and its configuration, with the documents in a database of this benchmark's own."""
    with tempfile.TemporaryDirectory(prefix="scale-", dir=os.environ.get("TMPDIR")) as folder:
        home = Path(folder)
        with contextlib.ExitStack() as running:
            uri = os.environ.get("CAXFLOW_TEST_MONGODB")
            if not uri:
                uri = running.enter_context(DatabaseServer(home / "rundb", durable=False)).uri
            name = f"scale_{uuid.uuid4().hex[:8]}"
            overrides = write_profile(home, uri, name)
            settings = config.load(overrides)
            client = running.enter_context(pymongo.MongoClient(uri))
            running.callback(client.drop_database, name)
            mark = settled(settings) if marked else {}
            check(settings)
            fill(client[name].runs_new, documents(count, actionable, mark, **kind))
            yield home, settings


def write_profile(home: Path, uri: str, database: str) -> dict:
    """Site files and a profile for them; returns what it says about the configuration."""
    sites = home / "sites"
    sites.mkdir()
    lngs = {"host": "xe1t-datamanager", "origin": True, "roots": {"raw": RAW["lngs"]}}
    midway = {
        "host": "midway-login1",
        "roots": {"raw": RAW["midway"], "processed": PROCESSED},
        "work_dir": str(home / "work"),
        "pull_from": ["lngs"],
        "processed": {"version": "bench", "make": True},
    }
    for name, site in {"lngs": lngs, "midway": midway}.items():
        (sites / f"{name}.yaml").write_text(yaml.safe_dump(site))
    overrides = {
        "site": "midway",
        "sites_dir": str(sites),
        "rundb": {"uri": uri, "database": database},
        "processors": {"bench": {"kind": "mini", "pax_version": "v1"}},
    }
    (home / "caxflow.yaml").write_text(yaml.safe_dump(overrides))
    profile = yaml.safe_load((HOME / "profiles" / "demo" / "config.yaml").read_text())
    profile |= {"configfile": str(home / "caxflow.yaml"), "cores": 2}
    (home / "config.yaml").write_text(yaml.safe_dump(profile))
    return overrides


def check(settings: config.Settings) -> None:
    """Make sure that what is inserted with a mark is what caxflow would mark itself."""
    for document, settled in zip(documents(2, 1), (True, False), strict=True):
        decision = decisions.decide(document, settings, decisions.skip_function(settings), document["end"])
        if decision.settled != settled:
            sys.exit(f"{document['name']} is not what this benchmark thinks: {decision}")


def fill(runs: pymongo.collection.Collection, made: Iterator[dict]) -> None:
    """Insert the documents, a thousand at a time."""
    batch = []
    for document in made:
        batch.append(document)
        if len(batch) == 1000:
            runs.insert_many(batch, ordered=False)
            batch = []
    if batch:
        runs.insert_many(batch, ordered=False)


def measure(count: int, actionable: int, first_pass: bool = False, **kind: Any) -> dict:
    """What one planning costs with `count` documents, and what making the indexes (and marks) cost."""
    with experiment(count, actionable, marked=not first_pass, **kind) as (home, settings):
        began = time.perf_counter()
        caxflow(home, "rundb", "init")
        init_s = time.perf_counter() - began
        plan_s, plan_cpu_s, peak_mb, printed = preview(home)
        expected = f"{min(actionable, settings.batch_size):,} run"
        if actionable and expected not in printed:
            sys.exit(f"the preview does not speak of {expected}:\n{printed[-2000:]}")
        query_s, server_s = ask(settings)
        return {
            "documents": count,
            "actionable": actionable,
            "plan_s": round(plan_s, 2),
            "plan_cpu_s": round(plan_cpu_s, 2),
            "peak_mb": round(peak_mb),
            "query_s": round(query_s, 3),
            "server_s": round(server_s, 3),
            "init_s": round(init_s, 1),
            "loop_s": round(loop(settings, count), 1),
        }


def environment() -> dict[str, str]:
    """Environment in which this clone's caxflow is the one that runs."""
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    return os.environ | {"PATH": path, "PYTHONPATH": str(HOME / "workflow")}


def caxflow(home: Path, *words: str) -> None:
    """Run the command line ``caxflow`` for the profile in `home`."""
    command = [sys.executable, "-c", "import sys, caxflow.cli; sys.exit(caxflow.cli.main())"]
    subprocess.run([*command, *words, "--profile", str(home)], env=environment(), check=True)


def preview(home: Path) -> tuple[float, float, float, str]:
    """Wall and CPU seconds, peak MB and the words of ``snakemake -n all``."""
    return timed(["snakemake", "--profile", str(home), "-n", "all"], HOME)


def timed(command: list[str], folder: Path) -> tuple[float, float, float, str]:
    """Wall and CPU seconds, peak MB and the output of a command that must succeed."""
    with tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        printed = output.read()
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{printed[-2000:]}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000, printed


def ask(settings: config.Settings) -> tuple[float, float]:
    """Seconds to ask and decide, and of those the server's (and the wire's)."""
    policy = plan.policy(settings)
    with RunsDB(settings.rundb, dry=True) as database:
        database.now()
        began = time.perf_counter()
        found = database.unsettled(settings.selection, settings.here.name, policy)
        standings = Standings(settings, database.now())
        plan.make(found, settings, standings.decide, standings.now)
        query_s = time.perf_counter() - began
        began = time.perf_counter()
        for _ in database.unsettled(settings.selection, settings.here.name, policy):
            pass
        return query_s, time.perf_counter() - began


def loop(settings: config.Settings, count: int, most: int = 2000) -> float:
    """Seconds for the peer that asks once for each run and task."""
    with RunsDB(settings.rundb, dry=True) as database:
        began = time.perf_counter()
        for found in list(database.runs.find({}, {"_id": 1}).limit(most)):
            document = database.runs.find_one({"_id": found["_id"]})
            _ = [entry for entry in document["data"] if entry["host"] == "midway-login1"]
        return TASKS * (time.perf_counter() - began) * count / min(count, most)


def overhead(runs: int) -> dict:
    """CPU of a job that moves next to nothing, and what Snakemake keeps of it; from two numbers of runs."""
    few, many = small_runs(2), small_runs(2 + runs)
    jobs = many["jobs"] - few["jobs"]
    kept = many["snakemake_files"] - few["snakemake_files"]
    return {
        "jobs": jobs,
        "cpu_s_per_job": round((many["cpu_s"] - few["cpu_s"]) / jobs, 3),
        "wall_s_per_job": round((many["wall_s"] - few["wall_s"]) / jobs, 3),
        "snakemake_files_per_job": round(kept / jobs, 3),
    }


@contextlib.contextmanager
def real_runs(count: int, history: int = 0) -> Iterator[tuple[Path, Path]]:
    """A profile's folder and a work directory for so many runs of two events, in folders of this machine.

    Before them there were `history` runs: their documents are settled, their receipts stand.
    """
    from caxflow.simulate import run_document, simulate_run

    with experiment(0, 0, marked=False) as (home, settings), RunsDB(settings.rundb) as database:
        for site in settings.sites.values():
            path = home / "sites" / f"{site.name}.yaml"
            content = yaml.safe_load(path.read_text())
            content.pop("processed", None)
            content["roots"] = {"raw": str(home / site.name)}
            path.write_text(yaml.safe_dump(content))
            (home / site.name).mkdir()
        now = config.load(yaml.safe_load((home / "caxflow.yaml").read_text()))
        fill(database.runs, documents(history, 0, settled(now)))
        caxflow(home, "rundb", "init")
        for index in range(history):
            name = f"{FIRST + datetime.timedelta(minutes=index):%y%m%d_%H%M}"
            for stage in ("lngs/{}.raw.done", "midway/{}.raw.done", "midway/{}.checksum"):
                receipt = home / "work" / stage.format(name)
                receipt.parent.mkdir(parents=True, exist_ok=True)
                receipt.touch()
        for index in range(count):
            name = f"{LATER + datetime.timedelta(hours=index):%y%m%d_%H%M}"
            raw = home / "lngs" / name
            same = {"kind": "led", "number": history + index + 1, "events": 2, "events_per_file": 2}
            simulate_run(raw, name, seed=index, **same)
            locations = {"xe1t-datamanager": str(raw)}
            database.runs.insert_one(run_document(name, locations=locations, **same))
        yield home, home / "work"


def small_runs(count: int) -> dict:
    """Register, copy and verify so many small runs, and count what that takes."""
    with real_runs(count) as (home, work):
        wall, cpu, _, _ = timed(["snakemake", "--profile", str(home), "all"], HOME)
        done = receipts_in(work)
        if done != 3 * count:
            sys.exit(f"{done} receipts of {3 * count}")
        kept = sum(path.is_file() for path in (work / ".snakemake").rglob("*"))
        return {"wall_s": wall, "cpu_s": cpu, "jobs": done, "snakemake_files": kept}


def receipts_in(work: Path) -> int:
    """Number of receipts in a work directory."""
    return sum(len(list((work / site).iterdir())) for site in RAW if (work / site).is_dir())


def backlog(count: int, batch: int, history: int) -> list[dict]:
    """Work off so many small runs in batches, each a call of its own; what each of them took."""
    calls: list[dict] = []
    with real_runs(count, history) as (home, work):
        before = receipts_in(work)
        while (done := (receipts_in(work) - before) // 3) < count:
            command = ["snakemake", "--profile", str(home), "all", "--config", f"batch_size={batch}"]
            wall, cpu, peak, printed = timed(command, HOME)
            runs = (receipts_in(work) - before) // 3 - done
            if runs != min(batch, count - done):
                sys.exit(f"{runs} runs of a batch of {batch}:\n{printed[-2000:]}")
            kept = sum(path.is_file() for path in (work / ".snakemake").rglob("*"))
            calls.append(
                {
                    "call": len(calls) + 1,
                    "left": count - done - runs,
                    "wall_s": round(wall, 1),
                    "wall_s_per_run": round(wall / runs, 2),
                    "cpu_s_per_run": round(cpu / runs, 2),
                    "peak_mb": round(peak),
                    "snakemake_files": kept,
                }
            )
            print(json.dumps(calls[-1]), file=sys.stderr, flush=True)
    return calls


PLAIN = """
RUNS = [line.strip() for line in open("runs.txt")]

rule all:
    input:
        expand("midway/{run}.processed.root", run=RUNS),

rule copy:
    output: "midway/{run}.raw.done"
    shell: "touch {output}"

rule verify:
    input: "midway/{run}.raw.done"
    output: "midway/{run}.checksum"
    shell: "touch {output}"

rule process:
    input: "midway/{run}.checksum"
    output: "midway/{run}.processed.root"
    shell: "touch {output}"
"""


def plain(count: int, actionable: int) -> dict:
    """What Snakemake itself costs when every run is a target; the older ones are done already."""
    with tempfile.TemporaryDirectory(prefix="plain-") as folder:
        home = Path(folder)
        (home / "midway").mkdir()
        (home / "Snakefile").write_text(PLAIN)
        names = [f"{FIRST + datetime.timedelta(minutes=index):%y%m%d_%H%M}" for index in range(count)]
        (home / "runs.txt").write_text("\n".join(names))
        for stage in ("raw.done", "checksum", "processed.root"):
            for name in names[: count - actionable]:
                (home / "midway" / f"{name}.{stage}").touch()
        command = ["snakemake", "-n", "--cores", "1", "--rerun-triggers", "mtime", "--quiet", "all"]
        wall, cpu, peak, _ = timed(command, home)
    return {"plain_s": round(wall, 2), "plain_cpu_s": round(cpu, 2), "plain_mb": round(peak)}


def main() -> int:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=100_000, metavar="N")
    parser.add_argument("--actionable", type=int, default=200, metavar="K")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--overhead", type=int, metavar="K", help="copy K small runs for real instead")
    parser.add_argument("--backlog", type=int, metavar="K", help="work off K small runs for real instead")
    parser.add_argument("--batch", type=int, default=100, metavar="B", help="runs a call of the backlog")
    parser.add_argument("--history", type=int, default=0, metavar="H", help="finished runs before it")
    parser.add_argument("--first-pass", action="store_true", help="measure the marking of all runs as well")
    parser.add_argument("--waiting", type=int, default=0, metavar="W", help="runs that wait for ever")
    parser.add_argument("--slim", action="store_true", help="documents with one gain in place of 260")
    parser.add_argument("--sizes", type=int, nargs="*", default=[1_000, 10_000, 100_000], metavar="N")
    parser.add_argument("--plain-up-to", type=int, default=10_000, metavar="N")
    parser.add_argument("--curves", type=Path, metavar="DIR", help="measure all --sizes, write scale.svg")
    arguments = parser.parse_args()
    if not arguments.curves:
        if arguments.backlog:
            calls = backlog(arguments.backlog, arguments.batch, arguments.history)
            print(json.dumps(calls) if arguments.json else table(calls))
            return 0
        if arguments.overhead:
            measured = overhead(arguments.overhead)
        else:
            measured = measure(
                arguments.documents,
                arguments.actionable,
                arguments.first_pass,
                waiting=arguments.waiting,
                slim=arguments.slim,
            )
        print(json.dumps(measured) if arguments.json else table([measured]))
        return 0
    rows = []
    for size in arguments.sizes:
        rows.append(measure(size, min(arguments.actionable, size)))
        if size <= arguments.plain_up_to:
            rows[-1] |= plain(size, min(arguments.actionable, size))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    arguments.curves.mkdir(parents=True, exist_ok=True)
    (arguments.curves / "scale.json").write_text(json.dumps(rows, indent=1))
    (arguments.curves / "scale.svg").write_text(curves(rows))
    print(json.dumps(rows) if arguments.json else table(rows))
    return 0


def table(rows: list[dict]) -> str:
    """The rows as a Markdown table."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(keys) + " |", "|" + "---:|" * len(keys)]
    lines += ["| " + " | ".join(f"{row[key]:,}" if key in row else "" for key in keys) + " |" for row in rows]
    return "\n".join(lines)


def curves(rows: list[dict]) -> str:
    """Draw seconds over documents, both logarithmic, as an SVG."""
    import math

    series = {
        "plan_s": "snakemake -n all",
        "plain_s": "every run a target",
        "loop_s": "a query a run and task",
    }
    colours = dict(zip(series, ("#1b6ca8", "#c46a1b", "#8a3b8f"), strict=True))
    points = {
        key: [(math.log10(row["documents"]), math.log10(row[key])) for row in rows if row.get(key)]
        for key in series
    }
    everything = [point for one in points.values() for point in one]
    left, right = min(x for x, _ in everything), max(x for x, _ in everything) + 1e-9
    low, high = math.floor(min(y for _, y in everything)), math.ceil(max(y for _, y in everything))

    def place(x: float, y: float) -> tuple[float, float]:
        return 70 + 420 * (x - left) / (right - left), 290 - 260 * (y - low) / (high - low)

    parts = ['<svg xmlns="http://www.w3.org/2000/svg" width="680" height="340" font-family="sans-serif"']
    parts.append(' font-size="12"><rect width="680" height="340" fill="white"/>')
    for power in range(low, high + 1):
        _, y = place(left, power)
        parts.append(f'<path d="M70 {y:.1f}H490" stroke="#ddd"/>')
        parts.append(f'<text x="62" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g} s</text>')
    for row in rows:
        x, _ = place(math.log10(row["documents"]), low)
        parts.append(f'<text x="{x:.1f}" y="310" text-anchor="middle">{row["documents"]:,}</text>')
    parts.append('<text x="280" y="332" text-anchor="middle">run documents</text>')
    for key, title in series.items():
        if not points[key]:
            continue
        line = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in points[key])
        x, y = place(*points[key][-1])
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colours[key]}" stroke-width="2"/>')
        parts.append(f'<text x="{x + 8:.1f}" y="{y + 4:.1f}" fill="{colours[key]}">{title}</text>')
    return "".join([*parts, "</svg>\n"])


if __name__ == "__main__":
    sys.exit(main())
