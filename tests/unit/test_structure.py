"""Imports of the library go one way: no cycle between packages, and nothing of Snakemake's."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[2] / "workflow" / "caxflow"


def imported(path):
    """Names that a module of the library imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def part(name):
    """What the library consists of at its first level: packages, and modules beside them."""
    return name.split(".")[1] if name.startswith("caxflow.") else None


def test_packages_depend_on_each_other_in_one_direction():
    graph = {}
    for path in LIBRARY.rglob("*.py"):
        here = path.relative_to(LIBRARY).parts[0].removesuffix(".py")
        graph.setdefault(here, set()).update({part(name) for name in imported(path)} - {here, None})
    assert {"config", "transfer", "rundb", "stages"} <= set(graph)
    assert graph["stages"] > {"transfer", "receipts"}
    TopologicalSorter(graph).prepare()  # which raises CycleError, naming the members


def test_the_library_works_without_snakemake():
    found = {
        str(path.relative_to(LIBRARY))
        for path in LIBRARY.rglob("*.py")
        if any(name.partition(".")[0] == "snakemake" for name in imported(path))
    }
    assert found == set()
