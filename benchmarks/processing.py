"""Speed and memory of the embedded processor on simulated TPC events.

    python benchmarks/processing.py --events 10000 --json

prints ``{"cpu_ms_per_event": ..., "events_per_s": ..., "peak_mb": ...}``: CPU of all processes, events a
second of wall time with `--cores` processes (default: all), largest memory of any process. The run is
simulated first, in a temporary directory, and not counted.

Where the folder `shared` lies beside the clone, the 100 events that pax simulated and processed are
processed, too: ``"as_pax"`` has the CPU an event and the shares of events whose main S1 and S2 were found,
with areas within 2 % and a drift time within 10 ns of pax's.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]

NAME = "160315_1432"


def process(directory: str, events: int, cores: int) -> None:
    """Process the run and print what it took; a process of its own, so that the simulation does not count."""
    from caxflow.mini import process_run
    from caxflow.simulate import run_document
    from caxflow.targets import Run

    document = run_document(NAME, number=7, events=events)
    start = time.monotonic()
    process_run(
        Path(directory) / NAME, Path(directory) / "a.root", settings=document, run=Run(NAME), cores=cores
    )
    wall = time.monotonic() - start
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(each.ru_utime + each.ru_stime for each in used)
    figures = {
        "cpu_ms_per_event": round(1000 * cpu / events, 2),
        "events_per_s": round(events / wall, 1),
        "peak_mb": round(max(each.ru_maxrss for each in used) / 1024, 1),
    }
    if (ROOT.parent / "shared/pax_sim").is_dir():
        figures["as_pax"] = compare(Path(directory) / "as_pax.root")
    print(json.dumps(figures))


def compare(output: Path) -> dict[str, float]:
    """Process the events of pax and compare with its answers."""
    import paxsim

    start = time.process_time()
    events = paxsim.process(output)["events"]
    cpu = time.process_time() - start
    there = paxsim.compare(output)
    return {
        "cpu_ms_per_event": round(1000 * cpu / events, 2),
        "found": float(there.found.mean()),
        "area_within_2_percent": float((there.area < 0.02).mean()),
        "drift_time_within_10_ns": float((there.drift_time <= 10).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", action="store_true", help="only the figures, as JSON")
    parser.add_argument("--process", metavar="DIRECTORY", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.process:
        process(arguments.process, arguments.events, arguments.cores)
        return
    from caxflow.simulate import simulate_run

    with tempfile.TemporaryDirectory() as directory:
        simulate_run(Path(directory) / NAME, NAME, number=7, events=arguments.events, seed=1)
        command = [sys.executable, __file__, "--process", directory]
        command += ["--events", str(arguments.events), "--cores", str(arguments.cores)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if arguments.json:
        print(output.strip())
        return
    for name, value in json.loads(output).items():
        print(f"{name:18} {value}")


if __name__ == "__main__":
    main()
