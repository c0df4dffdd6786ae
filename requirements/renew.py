"""Write the lock files anew: the newest versions that `pyproject.toml` allows, with their hashes.

Run by ``make lock``, with the Python of an environment that has pip-tools.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
# No place where packages were found is written down: each machine has its own.
COMPILE = (
    *(sys.executable, "-m", "piptools", "compile", "--quiet", "--strip-extras", "--resolver=backtracking"),
    *(
        "--no-header",
        "--no-annotate",
        "--no-emit-index-url",
        "--no-emit-trusted-host",
        "--no-emit-find-links",
    ),
    *("--unsafe-package=caxflow", str(HERE.parent / "pyproject.toml")),
)
# Each file holds what those before it do not.
LAYERS = (
    ("build", "What builds caxflow itself", ("--only-build-deps", "--build-deps-for=editable")),
    ("lock", "What caxflow needs", ()),
    ("demo", "What the demo needs beside it", ("--extra=demo",)),
    ("dev", "What tests, linters and benchmarks need beside it", ("--extra=dev",)),
)


def compiled(*options: str) -> dict[str, str]:
    """Return what pip-tools writes for each package, by its name."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "lock.txt")
        subprocess.run([*COMPILE, *options, f"--output-file={output}"], check=True)
        text = re.sub(r"^#.*\n", "", output.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {lines.split("==")[0]: lines for lines in re.split(r"\n(?=\w)", text.strip())}


def main() -> None:
    """Choose all versions at once, then part them into layers."""
    everything = compiled("--extra=dev", "--all-build-deps", "--generate-hashes")
    placed = set()
    with tempfile.TemporaryDirectory() as folder:
        versions = Path(folder, "versions.txt")
        versions.write_text(re.sub(r" \\\n.*", "", "\n".join(everything.values())), encoding="utf-8")
        for name, what, options in LAYERS:
            new = sorted(set(compiled(*options, f"--constraint={versions}")) - placed)
            placed.update(new)
            lines = [f"# {what}, in the versions that were tested. Written by: make lock"]
            lines += [everything[package] for package in new]
            (HERE / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
