"""The guard of the database tests notices each kind of command that it is there for."""

import pymongo
import pytest

from rundb_guard import check, guarded

NAME = {"name": "160315_1432"}
RAW = {"$elemMatch": {"type": "raw", "status": "transferred"}}

BAD = {
    "positional $ in findAndModify": (
        "findAndModify",
        {"query": NAME | {"data.host": "a"}, "update": {"$set": {"data.$.status": "error"}}},
    ),
    "findAndModify by _id": ("findAndModify", {"query": {"_id": 1}, "update": {"$set": {"a": 1}}}),
    "inside $and": (
        "update",
        {"updates": [{"q": {"$and": [NAME, {"data": RAW}]}, "u": {"$set": {"data.$.status": "error"}}}]},
    ),
    "distinct of data.host": ("distinct", {"key": "data.host", "query": {}}),
    "$all on data.host": ("find", {"filter": {"data.host": {"$all": ["a", "b"]}}}),
    "inside $elemMatch": ("find", {"filter": NAME | {"data": {"$elemMatch": {"$or": [{}, {}]}}}}),
    '"$data.host" is missing': ("aggregate", {"pipeline": [{"$project": {"hosts": "$data.host"}}]}),
    "null for data.checksum": ("find", {"filter": NAME | {"data.checksum": None}}),
    "null for data.rse": ("count", {"query": NAME | {"data.rse": {"$in": ["a", None]}}}),
    "$elemMatch alone": ("aggregate", {"pipeline": [{"$match": {"data": RAW}}]}),
    "capped": ("create", {"create": "log", "capped": True, "size": 1}),
    "_id cannot be an array": ("insert", {"documents": [{"_id": [1]}]}),
    "snapshot": ("find", {"filter": NAME, "readConcern": {"level": "snapshot"}}),
    "$dateDiff needs": ("aggregate", {"pipeline": [{"$set": {"a": {"$dateDiff": {}}}}]}),
    "accumulator $count": ("aggregate", {"pipeline": [{"$group": {"_id": 1, "n": {"$count": {}}}}]}),
    "bulkWrite": ("bulkWrite", {}),
    "let in find": ("find", {"filter": NAME, "let": {}}),
    "$lookup with localField": (
        "aggregate",
        {"pipeline": [{"$lookup": {"localField": "a", "pipeline": []}}]},
    ),
}

GOOD = [
    ("find", {"filter": NAME | {"data": {"$not": RAW}}}),
    ("find", {"filter": {"pending.raw": "midway", "$or": [{"data": RAW}, {"data": RAW}]}}),
    ("find", {"filter": NAME | {"end": None}}),
    ("update", {"updates": [{"q": NAME | {"data": RAW}, "u": {"$set": {"data.$.status": "error"}}}]}),
    (
        "aggregate",
        {"pipeline": [{"$unwind": "$data"}, {"$group": {"_id": "$data.host", "n": {"$sum": 1}}}]},
    ),
    ("aggregate", {"pipeline": [{"$match": NAME}, {"$count": "runs"}]}),
    ("insert", {"documents": [NAME | {"data": [], "comments": None}]}),
]


@pytest.mark.parametrize("finding", BAD)
def test_notices(finding):
    name, command = BAD[finding]
    assert any(finding in found for found in check(name, command)), check(name, command)


@pytest.mark.parametrize(("name", "command"), GOOD)
def test_lets_pass(name, command):
    assert check(name, command) == []


def test_sees_what_a_client_sends(database):
    with guarded() as guard, pymongo.MongoClient(*database.client.address) as client:
        client[database.name].runs.insert_one(dict(NAME))
        assert client[database.name].runs.distinct("data.host") == []
        seen, guard.findings = guard.findings, []
    assert seen == ["distinct: distinct of data.host is silently empty: use $unwind and $group"]
