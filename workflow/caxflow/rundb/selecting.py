"""Which runs `select` admits: python decides, in words; the query leaves out what is out for certain.

What the query lets through and python does not is odd: a number that cannot be read, a list of sources.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from caxflow import documents, values
from caxflow.config import Selection
from caxflow.errors import CaxflowError
from caxflow.targets import Run


def excluded(document: Mapping, selection: Selection) -> str | None:
    """Return which condition of the configuration keeps a run out, in words; None if it is looked after."""
    return next(_excluding(document, selection), None)


def select(selection: Selection) -> dict:
    """Return the query for what `excluded` may let in; muon-veto runs have the number 0."""
    query: dict[str, Any] = {}
    if selection.runs:
        # By name they are found; TPC and muon veto of one start have the same.
        named = [Run.parse(run) for run in selection.runs]
        query["name"] = {"$in": sorted({run.name for run in named})}
        query["$or"] = [{"name": run.name, "detector": run.detector} for run in named]
    if selection.detectors:
        query["detector"] = {"$in": list(selection.detectors)}
    outside = [
        ("number", "$lt", selection.first),
        ("number", "$gt", selection.last),
        ("start", "$lt", selection.after),
        ("start", "$gte", selection.before),
    ]
    # Numbers and times that are texts, and lists of times, compare with none of these: python looks at them.
    out = [
        {key: {operator: bound}, f"{key}.0": {"$exists": False}}
        for key, operator, bound in outside
        if bound is not None
    ]
    if out:
        query["$nor"] = out
    if selection.sources:
        query["source.type"] = {"$in": list(selection.sources)}
    tags: dict[str, Any] = {}
    if selection.tags:
        tags["$in"] = list(selection.tags)
    if selection.without_tags:
        tags["$nin"] = list(selection.without_tags)
    if tags:
        query["tags.name"] = tags
    return query


def _excluding(document: Mapping, selection: Selection) -> Iterator[str]:
    number = documents.value(document, "number", type_=int)
    start = documents.time_of(document.get("start"))
    detector = document.get("detector")
    source = documents.value(document, "source", "type", type_=str)
    tags = set(documents.tags(document))
    if selection.runs and _name(document) not in selection.runs:
        yield "it is not among the configured runs"
    if selection.detectors and detector not in selection.detectors:
        yield f"select.detectors does not name {detector}"
    for bound, wrong, word in (
        (selection.first, lambda bound: number is None or number < bound, "first"),
        (selection.last, lambda bound: number is None or number > bound, "last"),
    ):
        if bound is not None and wrong(bound):
            yield f"its number is {values.said(document.get('number'))}, and select.numbers.{word} is {bound}"
    for bound, wrong, word in (
        (selection.after, lambda bound: start is None or start < bound, "after"),
        (selection.before, lambda bound: start is None or start >= bound, "before"),
    ):
        if bound is not None and wrong(bound):
            begun = start or values.said(document.get("start"))
            yield f"its start is {begun}, and select.start.{word} is {bound}"
    if selection.sources and source not in selection.sources:
        yield f"its source is {source}, and select.sources has {', '.join(selection.sources)}"
    if selection.tags and not tags & set(selection.tags):
        yield f"it has none of the tags in select.tags: {', '.join(selection.tags)}"
    for tag in sorted(tags & set(selection.without_tags)):
        yield f"it is tagged {tag}, which select.without_tags keeps out"


def _name(document: Mapping) -> str | None:
    try:
        return str(documents.run_of(document))
    except CaxflowError:
        return None
