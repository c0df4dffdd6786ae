"""Speed and memory of the embedded processor on simulated TPC events.

    python benchmarks/processing.py --events 10000 --json

prints ``{"cpu_ms_per_event": ..., "events_per_s": ..., "peak_mb": ...}``: CPU of all processes, events a
second of wall time with `--cores` processes (default: all), largest memory of any process. The run is
simulated first, in a temporary directory, and not counted.
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

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
    print(
        json.dumps(
            {
                "cpu_ms_per_event": round(1000 * cpu / events, 2),
                "events_per_s": round(events / wall, 1),
                "peak_mb": round(max(each.ru_maxrss for each in used) / 1024, 1),
            }
        )
    )


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
