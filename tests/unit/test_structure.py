"""Imports of the library go one way, nothing is Snakemake's, and what is sent to far ends is fit for them."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

from caxflow.transfer import bootstrap

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


def test_the_table_of_the_library_has_all_of_it_from_the_bottom():
    text = (LIBRARY.parents[1] / "docs/architecture.md").read_text()
    table = text.partition("| package or module |")[2].partition("\n\n")[0]
    rows = [re.findall(r"`(\w+)`", row.split("|")[1]) for row in table.splitlines()[2:]]
    height = {name: number for number, row in enumerate(rows) for name in row}
    assert set(height) == {part(module) for module in MODULES} - {None}
    for module, path in MODULES.items():
        for name in imported(path) if part(module) else ():
            used = part(module_of(name))
            assert used is None or height[used] <= height[part(module)], f"{module} imports {name}"


def test_the_library_works_without_snakemake():
    found = {
        module
        for module, path in MODULES.items()
        if any(name.partition(".")[0] == "snakemake" for name in imported(path))
    }
    assert found == set()


# What Python 3.8 does not know, by the names of attributes and keywords.
NEWER = {"removeprefix", "removesuffix", "pairwise", "bit_count", "strict", "slots", "kw_only"}


def test_what_runs_at_the_far_end_is_python_3_8_and_brings_all_it_imports():
    sent = {f"caxflow.{name}" for name in bootstrap.SERVING}
    for module in sent:
        path = MODULES[module]
        tree = ast.parse(path.read_text(), feature_version=(3, 8))
        names = {getattr(node, "attr", getattr(node, "arg", None)) for node in ast.walk(tree)}
        assert not names & NEWER, module
        assert {module_of(name) for name in imported(path)} <= sent | {None, "caxflow"}, module


# Where numbers and times are not those of a document: receipts that are told, functions, what is printed.
OTHERS = {f"caxflow.{name}" for name in ("planning.sync", "conditions.expressions")}
OTHERS |= {f"caxflow.monitoring.{name}" for name in ("status", "metrics", "runreport")}
TYPES = {"int", "float", "bool", "Number", "Real", "Decimal", "Decimal128", "Int64", "datetime"}


def test_numbers_and_times_of_documents_are_read_by_one_module():
    readers = {
        "documents",
        "processes",
        "conditions",
        "copies",
        "monitoring",
        "page",
        "planning",
        "rundb",
        "stages",
    }
    found = set()
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())) if part(module) in {*readers, "values"} else ():
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "isinstance":
                names = {getattr(each, "attr", getattr(each, "id", None)) for each in ast.walk(node.args[1])}
                found |= {module} if names & TYPES else set()
    assert found - OTHERS == {"caxflow.values", "caxflow.documents"}


# Each way on which text leaves the program has one door, through which foreign text goes inert.
DOORS = {
    "rich.console.Console": {"caxflow.terminal"},
    "html.escape": {"caxflow.legible"},
    "str.isprintable": {
        "caxflow.legible",
        "caxflow.documents",
        "caxflow.config.folders",
        "caxflow.transfer.place",
    },
    "print": {"caxflow.planning.planner", "caxflow.monitoring.doctor.trials", "caxflow.cli."},
}


def test_what_people_see_goes_through_one_door_each():
    for module, path in MODULES.items():
        names = {name for name in imported(path) if name in DOORS}
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr == "isprintable":
                names.add("str.isprintable")
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "print":
                names.add("print")
        for name in names:
            assert any(f"{module}.".startswith(door) for door in DOORS[name]), f"{module}: {name}"
