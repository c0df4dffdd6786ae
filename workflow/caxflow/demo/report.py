"""What the demo shows at its end: what is where, how it was proven, and how to look further."""

import datetime
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from rich.table import Table

from caxflow import receipts, targets, words
from caxflow.config import HOME
from caxflow.demo.scene import RECIPES, SITES, Recipe, Scene

KINDS = (("raw", "raw.done", "checksum"), ("processed", "processed.done", "processed.checksum"))


LEGEND = """\
complete   its zips hold every event that was triggered; every byte was read
hashed     every byte was hashed as it was read at the source and as it arrived
checked    every branch was read, and the events are those of the raw data
read back  read again from disk at that time (UTC), with the same manifest"""


def table(scene: Scene) -> Table:
    """One line a copy, from the receipts in the work directory; fits 80 columns."""
    shown = Table(
        title="What is where, and how it was proven", title_justify="left", box=None, pad_edge=False
    )
    for name in ("run", "data", "site"):
        shown.add_column(name, no_wrap=True)
    shown.add_column("size", justify="right", no_wrap=True)
    for name in ("manifest", "proof"):
        shown.add_column(name, no_wrap=True)
    for recipe in RECIPES:
        lines = list(copies(scene, recipe)) or [("", "", "", "", "no receipt")]
        for index, line in enumerate(lines):
            shown.add_row(str(recipe.run) if index == 0 else "", *line)
    return shown


def copies(scene: Scene, recipe: Recipe) -> Iterator[tuple[str, str, str, str, str]]:
    """Kind of data, site, size, manifest and proof of each copy that has a receipt."""
    for data, done, checksum in KINDS:
        for site in SITES:
            receipt = scene.work / targets.path(site, recipe.run, done)
            if receipt.exists():
                stated = receipts.read(receipt)
                digest = stated["manifest"]["digest"].partition(":")[2][:8]
                proof = proofs(data, stated, scene.work / targets.path(site, recipe.run, checksum))
                yield data, site, words.size(stated["bytes"]), digest, ", ".join(proof)


def proofs(data: str, stated: dict, checksum: Path) -> Iterator[str]:
    """What a receipt and the checksum file beside it prove, in the words of the legend."""
    if "source" in stated:
        yield "hashed"
    else:
        yield "complete" if data == "raw" else "checked"
    if checksum.exists():
        at = datetime.datetime.fromtimestamp(checksum.stat().st_mtime, datetime.UTC)
        yield f"read back {at:%H:%M}"


def hints(scene: Scene) -> str:
    """How to look further, as commands for the demo's shell; before the main job, how to begin."""
    run = RECIPES[0].run
    commands = {"what would be done next": "snakemake --profile demo -n all"}
    if not (scene.work / targets.path("midway", run, "processed.root")).exists():
        return _listed(commands | {"do it": "snakemake --profile demo all"})
    data = scene.directory.relative_to(HOME) if scene.directory.is_relative_to(HOME) else scene.directory
    work = data / scene.work.name
    sums = shlex.quote(f"{scene.work}/tegner/{run}.checksum")
    commands |= {
        "one fact, by its file name": f"snakemake --profile demo midway/{run}.processed.root",
        "what is where, as the runs database has it": "caxflow status --profile demo",
        "a receipt": f"cat {work}/midway/{run}.raw.done",
        "the copy at tegner, checked by another program": (
            f"(cd {data}/tegner/raw/{run} && xxhsum -c {sums})"
        ),
        "the physics": (
            f"python -c \"import uproot; uproot.open('{work}/midway/{run}.processed.root')['tree'].show()\""
        ),
    }
    if not shutil.which("xxhsum"):
        del commands["the copy at tegner, checked by another program"]
    return _listed(commands)


def _listed(commands: dict[str, str]) -> str:
    return "\n".join(f"  {command}\n      {what}" for what, command in commands.items())
