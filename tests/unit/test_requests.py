"""What is said of a word on the command line that no rule makes."""

import logging

import pytest
import yaml

from caxflow import config
from caxflow.planning.requests import InOurWords, explain

RULES = ("all", "purge", "scrub", "report", "copy_raw", "verify_raw")
SITES = {
    "lngs": {"origin": True},
    "midway": {"processed": {"version": "mini_v1"}, "minitrees": {"make": ["Basics"]}},
    "tegner": {"processed": {"version": "mini_v1", "make": False}},
}
KEPT = {"lngs": ["raw"], "midway": ["raw", "processed", "minitrees"], "tegner": ["raw", "processed"]}

MEANT = {
    "al": "did you mean all?",
    "copy_rw": "did you mean copy_raw?",
    "160315_1432": "a target has a site and a stage: midway/160315_1432.processed.root",
    "midwai/160315_1432.raw.done": "ask for lngs/160315_1432.raw.done or midway/160315_1432.raw.done or",
    "midway/160315_1432.procesed.root": "did you mean midway/160315_1432.processed.root?",
    "work/midway/160315_1432_MV.raw.dne": "did you mean midway/160315_1432_MV.raw.done?",
    "/abs/tegnr/160315_1432.checksum": "did you mean tegner/160315_1432.checksum?",
    "midway/160315_143.raw.done": "'160315_143' is not the name of a run",
    "nowhere/160315_1432.raw.dome": "the sites are lngs, midway, tegner",
    "midway/160315_1432.zzz": "the stages are raw.done, checksum,",
    "../../etc/passwd": "targets are all, purge, scrub, report and files, as midway/",
    "lngs/160315_1432.processed.root": "lngs keeps no processed data -> ask for midway/160315_1432.processed",
    "lngs/160315_1432.processed.checksum": "or tegner/160315_1432.processed.checksum",
    "tegner/160315_1432.settings.json": "tegner makes no processed data -> ask for midway/160315_1432.",
    "tegner/pax_v1/160315_1432.root": "tegner makes no processed data -> ask for midway/pax_v1/1603",
    "lngs/160315_1432.minitrees.done": "lngs makes no minitrees data -> ask for midway/160315_1432.mini",
}


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "sites").mkdir()
    main = {"rundb": {"uri": "mongodb://db.example"}, "processors": {"mini_v1": {"kind": "mini"}}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(main))
    for name, site in SITES.items():
        roots = {kind: f"/{name}/{kind}" for kind in KEPT[name]}
        whole = site | {"host": name, "work_dir": f"/work/{name}", "roots": roots}
        (tmp_path / f"sites/{name}.yaml").write_text(yaml.safe_dump(whole))
    return config.load({"site": "midway"}, tmp_path)


@pytest.mark.parametrize("word", MEANT)
def test_what_is_wrong_and_what_is_meant(settings, word):
    said = str(explain(word, RULES, settings))
    assert MEANT[word] in said
    assert word in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            "MissingRuleException:\nNo rule to produce al (if you use input functions make sure …).",
            "caxflow: no rule makes 'al' -> did you mean all?",
        ),
        (
            "WorkflowError:\nTarget rules may not contain wildcards. Please …",
            "caxflow: a rule for one run is no",
        ),
        (
            "WorkflowError:\nFile midway/160315_1432.report.html marked for report but does not exist.",
            "caxflow: there is no midway/160315_1432.report.html yet -> make the pages first",
        ),
        ("Building DAG of jobs...", "Building DAG of jobs..."),
    ],
)
def test_snakemake_says_it_in_our_words(settings, said, shown):
    record = logging.LogRecord("snakemake", logging.ERROR, "", 0, said, (), None)
    assert InOurWords(settings, lambda: RULES).filter(record)
    assert record.getMessage().startswith(shown)
