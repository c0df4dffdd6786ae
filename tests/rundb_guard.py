"""Watches what is sent to the runs database for commands that stand-ins and old servers get wrong.

The tests' server answers some valid commands wrongly and in silence, and claims to be newer than the MongoDB
4.4 that sites run. A test that uses the `database` fixture fails when the code under test sends one of these,
whatever the answer was.
"""

import contextlib
import re
from collections.abc import Iterator

from pymongo import monitoring

# The keys of a run document that hold arrays.
ARRAYS = ("data", "tags", "comments")

# Stages, expressions, accumulators and commands that came after MongoDB 4.4.
NEWER = frozenset(
    re.findall(
        r"\$\w+",
        """
        5.0: $setWindowFields $dateAdd $dateSubtract $dateDiff $dateTrunc $getField $setField $unsetField
             $denseRank $rank $documentNumber $shift $derivative $integral $expMovingAvg $covariancePop
             $covarianceSamp
        5.1 to 5.3: $densify $documents $fill $locf $linearFill $top $topN $bottom $bottomN $firstN $lastN
             $maxN $minN $sortArray $tsIncrement $tsSecond
        6.0 and later: $bitAnd $bitOr $bitXor $bitNot $median $percentile $toUUID $serializeEJSON $sigmoid
             $changeStreamSplitLargeEvent $vectorSearch $search $searchMeta $rankFusion $scoreFusion
        """,
    )
)


def walk(value: object) -> Iterator[tuple[str | None, object]]:
    """All (key, value) pairs and, with key None, all list items inside a command, at any depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from walk(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield None, inner
            yield from walk(inner)


def in_array(key: str) -> bool:
    """Whether a dotted key reaches into an array of the run document."""
    return key.partition(".")[0] in ARRAYS and "." in key


def check_filter(query: dict) -> Iterator[str]:
    """What is wrong with a filter."""
    for key, value in walk(query):
        if key == "$elemMatch":
            inside = {"$or", "$and", "$nor"} & {name for name, _ in walk(value)}
            if inside:
                yield f"{inside.pop()} inside $elemMatch is an error: put $or of $elemMatch at the top"
        if key is None or key.startswith("$") or not in_array(key):
            continue
        operators = value if isinstance(value, dict) else {}
        if "$all" in operators:
            yield f"$all on {key} silently finds nothing: use $and of equalities"
        wanted = [operators.get("$eq", 0), *operators.get("$in", ())] if operators else [value]
        if None in wanted:
            yield f"null for {key} loses rows through an index: write the key always"
    if any(key == "$elemMatch" for key, _ in walk(query)) and not indexable(query):
        yield "$elemMatch alone reads the whole collection: filter by an indexed scalar as well"


def indexable(query: dict) -> bool:
    """Whether a filter has a condition outside the arrays that an index can serve."""
    conditions = [query, *query.get("$and", ())]
    return any(
        not key.startswith("$") and key.partition(".")[0] not in ARRAYS
        for condition in conditions
        for key in condition
    )


def check_pipeline(pipeline: list) -> Iterator[str]:
    """What is wrong with a pipeline, of an aggregation or an update."""
    unwound = set()
    for stage in pipeline:
        for name, body in stage.items():
            if name == "$unwind":
                path = body["path"] if isinstance(body, dict) else body
                unwound.add(path.removeprefix("$"))
                continue
            if name == "$match":
                yield from check_filter(body)
            if name == "$lookup" and "pipeline" in body and "localField" in body:
                yield "$lookup with localField and a pipeline needs MongoDB 5.0"
            if name in ("$group", "$bucket", "$bucketAuto"):
                yield from (
                    "the accumulator $count needs MongoDB 5.0: use $sum of 1"
                    for key, value in walk(body)
                    if key == "$count" and value == {}
                )
            yield from (
                f'"{value}" is missing in expressions: $unwind first, or $map'
                for _, value in walk(body)
                if isinstance(value, str)
                and value.startswith("$")
                and in_array(value[1:])
                and value[1:].partition(".")[0] not in unwound
            )


def positional(update: dict | list) -> bool:
    """Whether an update has the positional operator, as in ``data.$.status``."""
    return any("$" in (key or "").split(".")[1:] for key, _ in walk(update))


def check_update(query: dict, update: dict | list) -> Iterator[str]:
    """What is wrong with an update and its filter."""
    yield from check_filter(query)
    if isinstance(update, list):
        yield from check_pipeline(update)
        return
    if positional(update) and any(
        in_array(key) or key in ARRAYS for key, _ in walk(query.get("$and", ())) if key
    ):
        yield "positional $ misses a condition on the array inside $and: put it at the top, or arrayFilters"


def check_find_and_modify(command: dict) -> Iterator[str]:
    """What is wrong with a findAndModify command."""
    query, update = command.get("query", {}), command.get("update", {})
    yield from check_update(query, update)
    if positional(update):
        yield "positional $ in findAndModify: use update_one, or arrayFilters"
    if "_id" in query:
        yield "findAndModify by _id reads the whole collection: use update_one and modified_count"


def check_write(name: str, command: dict) -> Iterator[str]:
    """What is wrong with an insert, update or delete command."""
    for one in command.get("updates", ()):
        yield from check_update(one["q"], one["u"])
    for one in command.get("deletes", ()):
        yield from check_filter(one["q"])
    if any(isinstance(document.get("_id"), list | tuple) for document in command.get("documents", ())):
        yield "an _id cannot be an array"
    if any("let" in one for one in (command, *command.get("updates", ()), *command.get("deletes", ()))):
        yield f"let in {name} needs MongoDB 5.0"


def check(name: str, command: dict) -> list[str]:
    """Everything in one command that the server of some site, or of the tests, gets wrong."""
    findings = [f"{key} needs a MongoDB newer than 4.4" for key, _ in walk(command) if key in NEWER]
    match name:
        case "find" | "count" | "distinct":
            findings += check_filter(command.get("filter") or command.get("query") or {})
            if name == "distinct" and in_array(command["key"]):
                findings.append(f"distinct of {command['key']} is silently empty: use $unwind and $group")
            if name == "find" and "let" in command:
                findings.append("let in find needs MongoDB 5.0")
        case "aggregate":
            findings += check_pipeline(command["pipeline"])
        case "findAndModify":
            findings += check_find_and_modify(command)
        case "insert" | "update" | "delete":
            findings += check_write(name, command)
        case "bulkWrite":
            findings.append("the command bulkWrite needs MongoDB 8.0: use the collection's bulk_write")
        case "create":
            newer = {"viewOn", "capped", "timeseries", "clusteredIndex"} & set(command)
            findings += [f"collections with {key} are not to be relied on" for key in newer]
    transaction = "startTransaction" in command or command.get("autocommit") is False
    if command.get("readConcern", {}).get("level") == "snapshot" and not transaction:
        findings.append("read concern snapshot outside a transaction is not enforced")
    return [f"{name}: {finding}" for finding in findings]


class Guard(monitoring.CommandListener):
    """Collects findings while `active`; pymongo cannot take a listener back once it is registered."""

    def __init__(self):
        self.active = False
        self.findings: list[str] = []

    def started(self, event):
        if self.active:
            self.findings += check(event.command_name, event.command)

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


_GUARD = Guard()
monitoring.register(_GUARD)


@contextlib.contextmanager
def guarded() -> Iterator[Guard]:
    """Watch the clients made from now on, until the end of the block."""
    _GUARD.active, _GUARD.findings = True, []
    try:
        yield _GUARD
    finally:
        _GUARD.active = False
