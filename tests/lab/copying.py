"""A copy in a process of its own, which tests may kill, or run in a network namespace.

Reads from its argument, JSON, what to give to `caxflow.transfer.copy`; writes a line of JSON for each
progress, then one with ``copied`` or ``error``.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Copying:
    """That process, as its test sees it."""

    def __init__(
        self, source, source_path, destination, destination_path, *, prefix=(), stderr=None, **options
    ):
        from dataclasses import asdict

        spec = {
            "source": asdict(source),
            "source_path": str(source_path),
            "destination": asdict(destination),
            "destination_path": str(destination_path),
            "options": options,
        }
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
        self.process = subprocess.Popen(
            [*prefix, sys.executable, __file__, json.dumps(spec)],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=environment,
        )
        self.last = {}

    def wait_for(self, done: int) -> None:
        """Wait until so many bytes were moved; fails if it ends before."""
        for line in self.process.stdout:
            self.last = json.loads(line)
            if self.last.get("phase") == "moving" and self.last["done"] >= done:
                return
            assert "phase" in self.last, self.last
        raise AssertionError(f"it ended early: {self.last}")

    def until(self, moment) -> None:
        """Wait until `moment` is true of its progress, or until it ends."""
        for line in self.process.stdout:
            self.last = json.loads(line)
            if "phase" not in self.last or moment(self.last):
                return

    def end(self) -> dict:
        """Wait for its end; its last line."""
        for line in self.process.stdout:
            self.last = json.loads(line)
        self.process.stdout.close()
        self.process.wait()
        return self.last

    def kill(self) -> None:
        """Kill it as a crash would."""
        self.process.kill()
        self.end()


def main() -> None:
    from caxflow import transfer
    from caxflow.errors import CaxflowError
    from caxflow.files.manifest import Manifest

    def tell(state):
        print(json.dumps({"phase": state.phase, "done": state.done}), flush=True)

    spec = json.loads(sys.argv[1])
    source, destination = (
        transfer.Place(**{**spec[end], "ciphers": tuple(spec[end]["ciphers"])})
        for end in ("source", "destination")
    )
    options = spec["options"]
    if "expected" in options:
        options["expected"] = Manifest.from_json(options["expected"])
    try:
        copied = transfer.copy(
            source,
            spec["source_path"],
            destination,
            spec["destination_path"],
            progress=tell,
            **options,
        )
    except CaxflowError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    print(
        json.dumps(
            {
                "copied": copied.manifest.digest,
                "sent": copied.sent,
                "adopted": copied.adopted,
                "connections": copied.connections,
                "seconds": copied.seconds,
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
