"""Which condition of ``select`` keeps a run out, in words: the same as `caxflow.rundb.select` asks for."""

from collections.abc import Iterator, Mapping

from caxflow import documents
from caxflow.config import Selection


def excluded(document: Mapping, selection: Selection) -> str | None:
    """Return which condition of the configuration keeps a run out, in words; None if it is looked after."""
    return next(_excluding(document, selection), None)


def _excluding(document: Mapping, selection: Selection) -> Iterator[str]:
    run = documents.run_of(document)
    number = documents.value(document, "number", type_=int)
    start = documents.time_of(document.get("start"))
    source = documents.value(document, "source", "type", type_=str)
    listed = documents.value(document, "tags", type_=list) or []
    tags = {documents.value(tag, "name", type_=str) for tag in listed}
    if selection.runs and str(run) not in selection.runs:
        yield "it is not among the configured runs"
    if selection.detectors and run.detector not in selection.detectors:
        yield f"select.detectors does not name {run.detector}"
    for bound, wrong, word in (
        (selection.first, lambda bound: number is None or number < bound, "first"),
        (selection.last, lambda bound: number is None or number > bound, "last"),
    ):
        if bound is not None and wrong(bound):
            yield f"its number is {number}, and select.numbers.{word} is {bound}"
    if selection.after and (start is None or start < selection.after):
        yield f"it started before select.start.after, {selection.after}"
    if selection.before and (start is None or start >= selection.before):
        yield f"it did not start before select.start.before, {selection.before}"
    if selection.sources and source not in selection.sources:
        yield f"its source is {source}, and select.sources has {', '.join(selection.sources)}"
    if selection.tags and not tags & set(selection.tags):
        yield f"it has none of the tags in select.tags: {', '.join(selection.tags)}"
    for tag in sorted(tags & set(selection.without_tags)):
        yield f"it is tagged {tag}, which select.without_tags keeps out"
