"""A copy in a process of its own, which tests may pause, kill, or run in a network namespace.

Reads from its argument, JSON, what to give to `caxflow.transfer.copy` and when to pause; writes a line of
JSON for each progress, then one with ``copied`` or ``error``.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Copying:
    """That process, as its test sees it.

    With `pause`, it stops by itself as soon as so many bytes were moved; only then does the constructor
    return, and `end` lets it go on. Nothing that a test does in between comes too late, however slow the
    machine is.
    """

    def __init__(
        self,
        source,
        source_path,
        destination,
        destination_path,
        *,
        pause: int | None = None,
        prefix=(),
        stderr=None,
        **options,
    ):
        from dataclasses import asdict

        spec = {
            "pause": pause,
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
        if pause is not None:
            self.until(lambda state: state["phase"] == "moving" and state["done"] >= pause)
            now = os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            if now.si_code != os.CLD_STOPPED:
                raise AssertionError(f"it ended before its pause: {self.end()}")

    def until(self, moment) -> None:
        """Wait until `moment` is true of its progress, or until it ends."""
        for line in self.process.stdout:
            self.last = json.loads(line)
            if "phase" not in self.last or moment(self.last):
                return

    def end(self) -> dict:
        """Let it go on, wait for its end, and return its last line."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
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
    from caxflow.transfer import task

    spec = json.loads(sys.argv[1])
    pause = spec["pause"]
    if pause is not None:
        task._INTERVAL = 0.005  # between two looks at the progress

    def tell(state):
        nonlocal pause
        print(json.dumps({"phase": state.phase, "done": state.done}), flush=True)
        if pause is not None and state.phase == "moving" and state.done >= pause:
            pause = None
            os.kill(os.getpid(), signal.SIGSTOP)

    source, destination = (
        transfer.Place(**{**spec[end], **{key: tuple(spec[end][key]) for key in ("ciphers", "roots")}})
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
