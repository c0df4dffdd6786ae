"""Whatever documents, file names and records say is printable and short wherever it is shown or kept."""

import copy
import datetime
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import nasty
from caxflow.monitoring import notify
from caxflow.targets import Run, Target
from caxflow.workdir import journal
from copies import SITES, Copies
from experiment import ROOT

NOW = datetime.datetime.now(datetime.UTC)
# As a database may have it: what is not, has an end of its own.
KEYS = [each for each in nasty.STORED if not set(each) & {"\0", "$", "."} and len(each) < 1000]
LONG = "x" * 1_000_000


@pytest.fixture
def copies(tmp_path, database, database_uri):
    with Copies(tmp_path, database_uri, database.name) as copies:
        yield copies


def places(value, path=()):
    """Paths to all that a document has, but for what finds it."""
    for key, each in value.items() if isinstance(value, dict) else enumerate(value):
        if (*path, key) in (("name",), ("_id",), ("detector",)):
            continue
        yield (*path, key)
        if isinstance(each, dict | list):
            yield from places(each, (*path, key))


def put(document, path, text):
    *above, last = path
    for key in above:
        document = document[key]
    document[last] = text


def rich(document):
    """A document that has all that is shown of one."""
    moment = NOW.replace(tzinfo=None)
    document |= {
        "user": "u",
        "comments": [{"text": "t", "user": "u", "date": moment}],
        "tags": [{"name": "t", "user": "u"}],
        "source": {"type": "none"},
        "reader": {"ini": {"name": "n"}},
        "trigger": {"events_built": 8, "status": "s"},
        "processor": {"correction_versions": {"a": "1"}, "DEFAULT": {"a": "1"}},
        "caxflow": {
            "gone": [{"type": "processed", "host": "h", "pax_version": "v", "at": moment, "why": "removed"}]
        },
    }
    note = document["data"][0]["caxflow"]
    note |= {"error": "e", "attempts": 3, "lease": moment, "version": "v", "since": moment, "left": "l"}
    other = copy.deepcopy(document["data"][0]) | {"type": "processed", "pax_version": "v", "status": "error"}
    other["caxflow"]["suspect"] = {"quarantine": "/q", "at": moment, "token": "t", "error": "e"}
    document["data"].append(other)
    return document


def fill(copies):
    """Put nasty text into every place of documents, one each, and into all that people write; the runs."""
    texts = itertools.cycle(nasty.STORED)
    model = rich(copies.add("160401_0000", sites=["lngs"]))
    copies.database.runs.delete_one({"_id": model.pop("_id")})
    made = []
    for number, path in enumerate(places(model)):
        made.append((number, [(path, next(texts))]))
    free = ["user", "comments.0.text", "tags.0.name", "source.type", "reader.ini.name"]
    free += ["data.0.caxflow.error", "data.0.caxflow.owner", "data.1.caxflow.error"]
    free = [tuple(int(part) if part.isdigit() else part for part in each.split(".")) for each in free]
    for text in [*nasty.STORED[::4], LONG]:
        made.append((len(made), [(path, text) for path in free]))
    runs = []
    for number, changes in made:
        document = copy.deepcopy(model) | {"name": f"1604{number // 24 + 1:02}_{number % 24:02}00"}
        document["data"][0]["location"] = str(copies.path("lngs", document["name"]))
        for path, text in changes:
            put(document, path, text)
        document["processor"] = {"correction_versions": {KEYS[number % len(KEYS)]: KEYS[number % len(KEYS)]}}
        copies.database.runs.insert_one(document)
        runs.append(document["name"])
        for key in ("action", "grounds", "caxflow", "kind", "host", "pax_version"):
            text = nasty.STORED[number % len(nasty.STORED)]
            record = {
                "run": document["name"],
                "kind": "raw",
                "host": SITES["lngs"],
                "at": NOW,
                "action": "made",
            }
            record |= {"grounds": "g", "by": {"user": text, "host": text, "pid": text}, key: text}
            copies.database.append_audit({"_id": f"{number}.{key}.made"} | record)
    for text in nasty.STORED:
        copies.database.runs.insert_one({"name": text, "detector": text, "data": []})
    return runs


def litter(copies):
    """Names that nobody would choose: beside copies, and in one."""
    for folder in (copies.path("midway").parent, copies.path("lngs", "160501_0000")):
        folder.mkdir(parents=True, exist_ok=True)
        for name in nasty.NAMES:
            (folder / os.fsdecode(name.encode("utf-8", "surrogateescape"))).write_bytes(b"x")
    copies.add("160501_0000", sites=["lngs"])
    return "160501_0000"


def check(what, *texts):
    for text in texts:
        assert nasty.shown_effects(text) == [], what
        assert "Traceback" not in text, what


def check_page(folder):
    """All that a browser gets: ASCII, in which no text has an effect."""
    for file in folder.rglob("*"):
        if not file.is_file() or file.parent.name == "assets":
            continue
        text = file.read_text()
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        if file.suffix == ".js":
            for found in re.finditer(r'"(?:[^"\\]|\\.)*"', text):
                check(file, json.loads(found[0]))
        else:
            check(file, re.sub(r"\s*\n", "\n", re.sub("<svg.*?</svg>|(<)", r"\n\1", text)))


def everything(copies, runs):
    yield ["status"]
    yield ["status", *runs[::2]]
    yield ["status", "--json", *runs[1::6]]
    yield ["why", "--history", *runs[1::2]]
    yield ["why", "--json", *runs[::6]]
    yield ["strays"]
    yield ["strays", "--permissions", "--at", "lngs"]
    yield ["strays", "--json"]
    yield ["strays", "-n", "--remove", str(copies.path("midway").parent / nasty.HOUSE)]
    yield ["rundb", "check"]
    yield ["rundb", "check", "--json"]
    yield ["rundb", "rebuild"]
    yield ["rundb", "init"]
    yield ["doctor"]
    yield ["rm", "-n", *runs[::4]]
    yield ["mv", "-n", *runs[1::4], "--at", "lngs", "--from", str(copies.path("lngs").parent / nasty.HOUSE)]
    yield ["page", str(copies.folder / "page")]


def test_nothing_that_is_shown_or_kept_has_an_effect(copies, zygote, monkeypatch):
    copies.add()
    odd = litter(copies)
    runs = [*fill(copies), odd]
    for number, text in enumerate([*nasty.TEXTS, LONG]):
        target = Target("midway", Run(runs[number]), "raw.done")
        journal.fail(copies.work(), target, f"the far end says: {text}")
    options = {"attempts": 1, "metrics": str(copies.folder / "caxflow.prom")}
    options["purge"] = {"after_days": 1, "processed": False}
    overrides = copies.overrides(**options)
    for target in ("all", "scrub", "purge"):
        done = zygote.call("perform", target, overrides)
        assert done["status"] in (0, 1), done["said"]
        check(target, done["out"], done["said"])
    profile = copies.profile(**options)
    for words in everything(copies, runs):
        done = zygote.call("command", [*words, "--profile", profile])
        assert done["status"] in (0, 1), f"{words[:2]}: {done['said'][-2000:]}"
        if "--json" in words:
            assert done["out"].isascii()
            assert all(len(line) < 12 * nasty.LONGEST for line in done["out"].split("\n"))
            json.loads(done["out"])
        else:
            check(words, done["out"], done["said"])
    check_page(copies.folder / "page")
    check("metrics", (copies.folder / "caxflow.prom").read_text())
    for log in copies.work().rglob("*.log"):
        check(log, log.read_text(errors="surrogateescape"))
    kept = json.loads((copies.work() / ".caxflow/plan.json").read_text())["problems"]
    check("problems", *kept)
    for document in copies.database.runs.find({"name": {"$in": runs}}):
        for entry in document["data"] if isinstance(document["data"], list) else ():
            # What is kept of the failures here, not what others wrote.
            if isinstance(entry, dict) and entry.get("host") == SITES["midway"]:
                check("database", entry["caxflow"].get("error") or "")
    told = []
    notify.tell(
        copies.settings(attempts=1, notify={"webhook": True}),
        copies.work(),
        problems=kept,
        away=LONG,
        now=NOW,
        send=lambda options, subject, text: told.append((subject, text)) or [],
    )
    ((subject, text),) = told
    check("message", subject, text)


def test_what_snakemake_says_has_no_effect(copies):
    new = "160601_0000"
    copies.add(new, sites=["lngs"])
    runs = fill(copies)
    for run, text in zip(runs, nasty.TEXTS, strict=False):
        journal.fail(copies.work(), Target("midway", Run(run), "raw.done"), f"it says: {text}")
    profile = copies.profile(attempts=1, batch_size=2)
    shipped = yaml.safe_load((ROOT / "profiles/demo/config.yaml").read_text())
    own = Path(profile, "config.yaml")
    own.write_text(yaml.safe_dump(shipped | yaml.safe_load(own.read_text()) | {"cores": 2}))
    for words in (["-n", "all"], ["all"]):
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", "--profile", profile, *words],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT / "workflow"), "CAXFLOW_WEBHOOK": ""},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
            check=False,
        )
        said = (done.stdout + done.stderr).decode(errors="surrogateescape")
        assert new in said, said
        check(words, said)
    assert copies.whole("midway", new)
    for log in [*copies.work().rglob("*.log")]:
        check(log, log.read_text(errors="surrogateescape"))
