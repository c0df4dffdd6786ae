"""Imports of the library go one way: no cycle between modules or packages, and nothing of Snakemake's."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[2] / "workflow" / "caxflow"
MODULES = {
    ".".join(("caxflow", *path.relative_to(LIBRARY).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in LIBRARY.rglob("*.py")
}


def imported(path):
    """Names that a module of the library imports, inside functions too; not those for annotations only."""
    waiting = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            waiting += ast.iter_child_nodes(node)


def module_of(name):
    """The module that an imported name is, or is from; None outside the library."""
    return next((each for each in (name, name.rpartition(".")[0]) if each in MODULES), None)


def part(module):
    """What the library consists of at its first level: packages, and modules beside them."""
    return module.split(".")[1] if module and "." in module else None


def test_modules_import_each_other_in_one_direction():
    graph = {
        module: {module_of(name) for name in imported(path)} - {module, None}
        for module, path in MODULES.items()
    }
    assert "caxflow.errors" in graph["caxflow.transfer.job"]
    TopologicalSorter(graph).prepare()  # which raises CycleError, naming the members


def test_packages_depend_on_each_other_in_one_direction():
    graph = {}
    for module, path in MODULES.items():
        here = part(module)
        graph.setdefault(here, set()).update(part(module_of(name)) for name in imported(path))
        graph[here] -= {here, None}
    assert graph["stages"] > {"transfer", "receipts"}
    TopologicalSorter(graph).prepare()


def test_the_library_works_without_snakemake():
    found = {
        module
        for module, path in MODULES.items()
        if any(name.partition(".")[0] == "snakemake" for name in imported(path))
    }
    assert found == set()
