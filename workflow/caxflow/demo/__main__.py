"""The demo: ``python -m caxflow.demo`` runs it, ``… shell`` opens a shell on it, ``… up`` serves it.

All three start the same three sites and runs database, in ``demo-data/`` of the clone, and leave nothing
running when they end.
"""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

from caxflow.config import HOME
from caxflow.demo import report
from caxflow.demo.scene import Scene
from caxflow.errors import CaxflowError
from caxflow.terminal import Terminal

COMMAND = ("snakemake", "--profile", "demo", "all")


def run(scene: Scene, console: Terminal) -> int:
    """Run the main job as a user would type it, and show what came of it."""
    status = _call(list(COMMAND), scene, console)
    for each in ("", report.table(scene), "", *report.LEGEND.splitlines(), ""):
        console.print(each)
    if status == 0:
        console.print("To look further, in the shell that `make demo-shell` opens:")
        _show(report.hints(scene), console)
    else:
        console.print(f"Snakemake ended with {status}; what failed and why stands above.")
    return status


def shell(scene: Scene, console: Terminal) -> int:
    """Open the user's shell with everything running, until it is left."""
    console.print("All of it runs until you leave this shell. In it:")
    _show(report.hints(scene), console)
    _call([os.environ.get("SHELL", "/bin/sh")], scene, None)
    return 0


def up(scene: Scene, console: Terminal) -> int:
    """Keep everything running for commands in other terminals, until Ctrl-C."""
    settings = (f"export {name}={scene.environment[name]}" for name in ("XDG_CONFIG_HOME",))
    console.print("In another terminal, in the clone:")
    for line in (f"export PATH={Path(sys.executable).parent}:$PATH", *settings):
        console.print(f"  {line}", soft_wrap=True)
    console.print(f"  {' '.join(COMMAND)}")
    console.print(f"The runs database is {scene.database.uri}; Ctrl-C ends everything.")
    signal.pause()
    return 0


def main() -> int:
    """Start the scene and do what the command line says; 0 if all went well."""
    parser = argparse.ArgumentParser(prog="python -m caxflow.demo", description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["run", "shell", "up"], default="run")
    what = {"run": run, "shell": shell, "up": up}[parser.parse_args().what]
    console = Terminal()
    # A polite end from outside leaves nothing behind either.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        home = Path(os.environ.get("CAXFLOW_HOME") or HOME)
        with Scene(home / "demo-data") as scene:
            console.print(f"three sites and a runs database are up, in {scene.directory}", soft_wrap=True)
            scene.simulate(console.print)
            scene.register()
            return what(scene, console)
    except CaxflowError as error:
        console.print(f"demo: {error}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130


def _show(text: str, console: Terminal) -> None:
    for line in text.splitlines():
        console.print(line, soft_wrap=True)


def _call(command: list[str], scene: Scene, console: Terminal | None) -> int:
    """Run a command in the clone, with the terminal its own; end it if we are ended."""
    if console:
        console.print(f"$ {' '.join(command)}")
    process = subprocess.Popen(command, cwd=HOME, env=scene.environment)
    try:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                # It got the same Ctrl-C and ends in its own way.
                continue
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
