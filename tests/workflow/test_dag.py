"""A target leads to a set of rules, as a user sees it who types the command."""

import pytest

from clones import HOSTS

RUN = "160315_1432"
EVERYTHING = {
    "register_raw": 1,
    "copy_raw": 2,
    "verify_raw": 2,
    "fetch_settings": 1,
    "process_raw": 1,
    "verify_processed": 2,
    "copy_processed": 1,
    "make_minitrees": 1,
}
TARGETS = {
    "lngs/160315_0000.raw.done": ["take note of {} at lngs"],
    "midway/160315_0100.raw.done": ["take note of {} at lngs", "pull {} from lngs"],
    "tegner/160315_0200.checksum": [
        "take note of {} at lngs",
        "pull {} from lngs",
        "push {} to tegner",
        "verify {} at tegner",
    ],
    "midway/160315_0300_MV.processed.root": [
        "freeze the settings of {} for midway",
        "take note of {} at lngs",
        "pull {} from lngs",
        "verify {} at midway",
        "process {} at midway",
    ],
    "tegner/160315_0400.processed.root": [
        "freeze the settings of {} for midway",
        "take note of {} at lngs",
        "pull {} from lngs",
        "verify {} at midway",
        "process {} at midway",
        "push processed {} to tegner",
        "link the processed file of {} at tegner",
    ],
    # Its raw data are at midway already, as the database knows.
    "midway/160315_0500.checksum": ["take note of {} at midway", "verify {} at midway"],
    # Its receipts are there.
    "midway/160315_0600.processed.root": ["freeze the settings of {} for midway", "process {} at midway"],
    # From one foreign site to another, through here.
    "nikhef/160315_0700.raw.done": ["take note of {} at lngs", "relay {} from lngs to nikhef"],
}


def test_a_target_leads_to_its_rules(clone, runs):
    names = {target: target.split("/")[1].split(".")[0] for target in TARGETS}
    for name in names.values():
        kind = "muon_veto" if name.endswith("_MV") else "tpc"
        at = ("lngs", "midway") if name == "160315_0500" else ("lngs",)
        runs.insert_one(clone.document(name.removesuffix("_MV"), kind=kind, at=at))
    for receipt in (
        "lngs/160315_0600.raw.done",
        "midway/160315_0600.raw.done",
        "midway/160315_0600.checksum",
    ):
        path = clone.work() / receipt
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    said = clone.snakemake("-n", *TARGETS)
    assert said.status == 0, said.text
    jobs = [line for line in said.out.splitlines() if line.startswith("would ")]
    for target, expected in TARGETS.items():
        found = [job.split(",")[0].removeprefix("would ") for job in jobs if names[target] in job]
        assert sorted(found) == sorted(words.format(names[target]) for words in expected), target
    assert len(jobs) == sum(map(len, TARGETS.values()))


def test_all_leads_to_everything_and_says_so_in_words(clone, runs):
    runs.insert_one(clone.document())
    said = clone.snakemake("-n", "all")
    assert said.status == 0, said.text
    assert said.rules == EVERYTHING
    for words in (
        f"pull {RUN} from lngs, 41.2 GB",
        f"push {RUN} to tegner, 41.2 GB",
        "1 run to work on at midway",
    ):
        assert words in said.text
    (summary,) = said.lines
    assert summary.count("41.2 GB") == 2


SWITCHES = {
    ("--config", "verify=false"): {
        # What is processed is verified first, whatever the policy for copies is.
        key: 1 if key == "verify_raw" else number
        for key, number in EVERYTHING.items()
        if key != "verify_processed"
    },
    ("--config", "kinds=[raw]"): {"register_raw": 1, "copy_raw": 2, "verify_raw": 2},
    ("--config", "runs=['160315_1432_MV']"): {},
    ("--until", "verify_raw"): {"register_raw": 1, "copy_raw": 2, "verify_raw": 2},
    ("--omit-from", "process_raw"): {"register_raw": 1, "copy_raw": 2, "verify_raw": 2, "fetch_settings": 1},
}


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_changes_nothing_but_its_rules_and_does_not_lose_the_site(clone, runs, switch):
    runs.insert_one(clone.document())
    said = clone.snakemake("-n", "all", *switch)
    assert said.status == 0, said.text
    assert said.rules == SWITCHES[switch]


def test_a_configuration_file_adds_to_the_profile_and_keeps_the_site(clone, runs, tmp_path):
    runs.insert_many([clone.document(), clone.document("160315_1433", kind="muon_veto")])
    (tmp_path / "mine.yaml").write_text("runs: ['160315_1433_MV']\nkinds: [raw]\n")
    said = clone.snakemake("-n", "all", "--configfile", str(tmp_path / "mine.yaml"))
    assert said.status == 0, said.text
    assert said.rules == {"register_raw": 1, "copy_raw": 2, "verify_raw": 2}
    assert "pull 160315_1433_MV from lngs" in said.out


REFUSED = {
    "midway/991231_2359.raw.done": ("991231_2359", "not in the runs database"),
    "nikhef/160315_1432.processed.root": ("nikhef", "snakemake --profile nikhef"),
    "midway/160316_0000.processed.root": ("160316_0000", "donotprocess"),
    "midway/160316_0000_MV.raw.done": ("no site has a good raw copy", "160316_0000_MV"),
}


@pytest.mark.parametrize("target", REFUSED)
def test_a_target_that_cannot_be_made_says_why_in_one_line(clone, runs, target):
    unwanted = clone.document("160316_0000", tags=[{"name": "donotprocess"}])
    nowhere = clone.document("160316_0000", kind="muon_veto", at=())
    runs.insert_many([clone.document(), unwanted, nowhere])
    line = clone.snakemake("-n", target).refused()
    for words in REFUSED[target]:
        assert words in line


def test_runs_with_surprises_are_told_and_the_others_go_on(clone, runs):
    doubled = clone.document("160318_0000")
    doubled["data"].append(doubled["data"][0] | {"location": "/elsewhere"})
    stray = clone.document("160317_0000")
    stray["data"][0]["location"] = "/etc/passwd"
    bare = {"name": "160319_0000", "detector": "tpc", "end": [], "start": []}
    path = clone.document() | {"name": "../../etc"}
    runs.insert_many([clone.document(), doubled, stray, bare, path])
    said = clone.snakemake("-n", "all")
    assert said.status == 0, said.text
    assert said.rules == EVERYTHING
    for words in (
        f"160318_0000: 2 entries for its raw copy at {HOSTS['lngs']}",
        "160317_0000: its raw copy at lngs is said to be in '/etc/passwd', outside",
        "'../../etc'",
        "160319_0000 waits: it is still being taken",
    ):
        assert sum(words in line for line in said.lines) == 1, said.text


def test_copies_state_how_many_connections_they_open_where(clone, runs):
    """A limit of the profile or the command line bounds those of all jobs, as of any resource."""
    clone.site("lngs", access={"method": "stream", "host": "lngs"})
    clone.site("tegner", access={"method": "stream", "host": "tegner", "connections": 3})
    rule = clone.folder / "workflow/rules/copy.smk"
    told = "lngs {resources.connections_lngs}, tegner {resources.connections_tegner}"
    rule.write_text(rule.read_text().replace("{params.what}", told))
    runs.insert_one(clone.document())
    said = clone.snakemake("-n", f"tegner/{RUN}.raw.done")
    assert said.status == 0, said.text
    for words in ("lngs 8, tegner 0", "lngs 0, tegner 3"):
        assert words in said.out
    rule = clone.folder / "workflow/rules/verify.smk"
    rule.write_text(rule.read_text().replace("verify {wildcards.run} at {wildcards.site}", told))
    said = clone.snakemake("-n", f"tegner/{RUN}.checksum")
    assert "lngs 0, tegner 1" in said.out, said.text
