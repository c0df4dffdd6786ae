"""What a new site needs: each thing that is missing is found, with the command that mends it."""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

import needs
from caxflow import config, preview
from caxflow.config import calls
from caxflow.monitoring import doctor
from caxflow.monitoring.doctor import BAD, DOUBTFUL, GOOD, finding, submission, trials
from copies import names
from operators import configured


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Make programs on an otherwise empty PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(**scripts):
        for name, script in scripts.items():
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)

    return make


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """A profile where snakemake finds it."""
    (tmp_path / "clone").mkdir()
    monkeypatch.chdir(tmp_path / "clone")

    def make(**keys):
        folder = tmp_path / "snakemake/midway"
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump({"cores": 1} | keys))
        return folder

    return make


def found(findings, about):
    return [(one.verdict, one.said, one.mend) for one in findings if one.about == about]


@pytest.fixture
def examine(tmp_path):
    """Everything but the database, which is away, and the partners, which are folders here."""

    def examine(folder=None, **overrides):
        settings = configured(tmp_path, rundb={"timeout": 0.1}, **overrides)
        files = [calls.profile_file(str(folder))] if folder else []
        return list(doctor.examine(settings, files))

    return examine


def test_here_and_partners_that_are_folders(tmp_path, examine):
    findings = examine()
    assert found(findings, "runs database")[0][0] == BAD
    assert {one.verdict for one in findings if one.about != "runs database"} <= {GOOD, DOUBTFUL}
    assert found(findings, "site tegner") == [(GOOD, "reached as a folder here", "")]
    assert found(findings, "profile") == [
        (DOUBTFUL, "none was named, so it was not looked at", "add --profile SITE")
    ]
    for folder in ("midway/raw", "tegner/raw", "work/midway"):
        assert names(tmp_path / folder) == []


def test_folders_that_are_missing(tmp_path):
    settings = configured(tmp_path, rundb={"timeout": 0.1})
    for site in ("midway", "tegner"):
        shutil.rmtree(tmp_path / site / "raw")
    findings = list(doctor.examine(settings, []))
    root = f"{tmp_path}/midway/raw"
    assert found(findings, "raw data here") == [(BAD, f"{root} is no folder", f"mkdir -p {root}")]
    assert found(findings, "raw data at tegner")[0][2] == f"mkdir -p {tmp_path}/tegner/raw"


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    settings = configured(tmp_path, rundb={"timeout": 0.1})

    def refuse(*arguments, **keys):
        raise OSError(30, os.strerror(30))

    # Whoever runs as root may write anywhere; a read-only file system says this.
    monkeypatch.setattr(trials.tempfile, "mkdtemp", refuse)
    findings = list(doctor.examine(settings, [], settings.here))
    assert found(findings, "raw data here")[0][:2] == (
        BAD,
        f"{tmp_path}/midway/raw cannot be written: Read-only file system",
    )


def test_what_people_are_told_by(tmp_path, examine, monkeypatch):
    monkeypatch.delenv("CAXFLOW_WEBHOOK", raising=False)
    mail = {"to": ["a@x.org"], "sender": "b@x.org", "server": "127.0.0.1", "port": 1, "tls": "none"}
    (tmp_path / "page").mkdir()
    findings = examine(
        notify={"webhook": True, "mail": mail},
        page={"folder": f"{tmp_path}/page"},
        metrics=f"{tmp_path}/metrics/caxflow.prom",
    )
    (one,) = found(findings, "webhook")
    assert one[0] == BAD
    assert "export CAXFLOW_WEBHOOK=" in one[2]
    (one,) = found(findings, "mail")
    assert one[:2] == (BAD, "mail by 127.0.0.1:1 failed: ConnectionRefusedError")
    assert found(findings, "runs page") == [(GOOD, f"{tmp_path}/page can be written", "")]
    assert found(findings, "metrics")[0][::2] == (DOUBTFUL, f"mkdir -p {tmp_path}/metrics")


OPEN = {
    "work directory": ("work/midway", "no call runs there", "chmod -R go-w {}/work/midway"),
    "raw data here": ("midway/raw", "they can rename, exchange and remove", "chmod go-w {}/midway/raw"),
    "raw data at tegner": ("tegner/raw", "they can rename, exchange and remove", "chmod go-w {}/tegner/raw"),
    "configuration": ("snakemake/midway", "they can have this account do anything", "chmod -R go-w {}"),
    "runs page": ("page", "what is shown there could be theirs", "chmod -R go-w {}/page"),
}


def test_h3_what_others_may_write_to_is_found(tmp_path, profile, examine):
    folder = profile()
    configured(tmp_path)
    (tmp_path / "page").mkdir()
    how = {"page": {"folder": f"{tmp_path}/page"}}
    assert not any("may be written by" in one.said for one in examine(folder, **how))
    for name, _, _ in OPEN.values():
        (tmp_path / name).chmod(0o2775)
    (tmp_path / "midway").chmod(0o777)
    findings = [one for one in examine(folder, **how) if "may be written by" in one.said]
    assert {one.verdict for one in findings} == {BAD}
    for about, (name, said, remedy) in OPEN.items():
        (one,) = [one for one in findings if f"{tmp_path / name} may be written" in one.said]
        assert one.about == about
        assert f"{tmp_path / name} may be written by group root (mode 2775)" in one.said
        assert said in one.said
        assert remedy.format(tmp_path) in one.mend
    above = [one.said for one in findings if f"{tmp_path}/midway may be written by all" in one.said]
    assert f"what is at {tmp_path}/midway/raw could be exchanged" in "".join(above)


def test_programs_that_others_may_write_to_and_what_leads_to_them_are_found(
    tmp_path, profile, examine, monkeypatch
):
    own = profile()
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/midway").symlink_to(own)
    packages, link = tmp_path / "env/lib/site-packages", tmp_path / "linked"
    (packages / "snakemake").mkdir(parents=True)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "env"))
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(packages))

    def said():
        return found(examine(link / "midway"), "configuration")

    assert [verdict for verdict, _, _ in said()] == [GOOD]
    for path, top in ((packages / "snakemake", tmp_path / "env"), (link, link)):
        path.chmod(0o2775)
        ((verdict, what, fix),) = said()
        assert (verdict, what.split(" may be")[0]) == (BAD, str(path))
        assert fix.endswith(f"chmod -R go-w {top}")
        path.chmod(0o755)
    needs.root()
    os.chown(packages, 65534, -1)
    assert [(verdict, what.split(":")[0]) for verdict, what, _ in said()] == [
        (DOUBTFUL, f"{packages} belongs to nobody")
    ]
    os.chown(packages, 0, -1)
    (tmp_path / "env").chmod(0o755)
    (tmp_path / "env/lib").chmod(0o755)
    tmp_path.chmod(0o777)
    assert {verdict for verdict, what, _ in said() if f"{tmp_path} may be written by all" in what} == {BAD}


def test_only_one_partner(tmp_path):
    settings = configured(tmp_path)
    findings = list(doctor.examine(settings, [], settings.site("lngs")))
    assert [one.about for one in findings] == ["site lngs", "raw data at lngs"]


def test_batch_commands_that_are_missing(profile, programs, examine):
    programs(sbatch="", squeue="")
    (one,) = found(examine(profile(**{"executor": "caxflow", "caxflow-system": "slurm"})), "batch system")
    assert one[:2] == (BAD, "scancel not found")


@pytest.mark.parametrize(
    ("script", "verdict", "said"),
    [
        ("echo node", GOOD, "Slurm answers sinfo --noheader"),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", BAD, "Unable to contact slurm controller"),
        # What an sinfo without any configuration prints: the last line is the cause.
        (
            "exec >&2; for text in 'resolve_ctls_from_dns_srv: res_nsearch error: Unknown host' "
            "'fetch_config: DNS SRV lookup failed' '_establish_config_source: failed to fetch config'; do "
            'echo "sinfo: error: $text"; done; echo "sinfo: fatal: Could not establish a source"; exit 1',
            BAD,
            "_establish_config_source: failed to fetch config; Could not establish a source",
        ),
    ],
)
def test_whether_the_batch_system_answers(profile, programs, examine, script, verdict, said):
    programs(sbatch="", squeue="", scancel="", sinfo=script)
    (one,) = found(examine(profile(**{"executor": "caxflow", "caxflow-system": "slurm"})), "batch system")
    assert one[0] == verdict
    assert said in one[1]


QSUB = """case "$*" in "-w v "*) ;; *) exit 3 ;; esac
case "$*" in *"-q nope"*) echo 'Unable to run job: job requests unknown queue "nope".'; exit 1 ;; esac
case "$*" in *h_vmem=?????M*|*h_vmem=4000M*) echo "verification: no suitable queues" >&2; exit 1 ;; esac
echo "verification: found suitable queue(s)"
"""
PBS = """case "$*" in *mem=48000mb*) echo 'qsub: Job exceeds queue resource limits' >&2; exit 188 ;; esac
case "$*" in "-h "*) echo 17.server ;; *) exit 3 ;; esac
"""
CONDOR = """[ "$1 $2" = "-dry-run /dev/null" ] || exit 3
grep -q "^accounting_group = xenon" "$3" || { echo 'ERROR: Invalid accounting_group' >&2; exit 1; }
"""
KNOWN = dict.fromkeys(("qstat", "qacct", "qselect", "condor_q", "condor_rm", "condor_history"), "")
KNOWN["qdel"] = '[ "$1" = 17.server ] && echo "$1" >> deleted'


@pytest.mark.parametrize(
    ("programs_", "profile_", "memory", "verdict", "said"),
    [
        (
            {"qsub": QSUB},
            "gridengine",
            500,
            GOOD,
            "Grid Engine would take the largest job of process_raw: 4 cores, 6.0 GB, 2 d",
        ),
        ({"qsub": QSUB}, "gridengine nope", 500, BAD, 'requests unknown queue "nope".'),
        ({"qsub": QSUB}, "gridengine", 4000, BAD, "verification: no suitable queues"),
        ({"qsub": PBS}, "pbs", 500, GOOD, "PBS would take the largest job"),
        ({"qsub": PBS}, "pbs", 4000, DOUBTFUL, "Job exceeds queue resource limits"),
        (
            {"condor_submit": CONDOR, "condor_status": "echo 8 64000"},
            "htcondor xenon",
            500,
            GOOD,
            "would take",
        ),
        (
            {"condor_submit": CONDOR, "condor_status": "echo 8 64000"},
            "htcondor",
            500,
            BAD,
            "Invalid accounting_group",
        ),
        (
            {"condor_submit": CONDOR, "condor_status": "echo 8 8000; echo undefined undefined"},
            "htcondor xenon",
            1000,
            DOUBTFUL,
            "no machine has 4 cores and 12000 MB of memory; the largest has 8 and 8000 MB",
        ),
    ],
)
def test_s5_other_batch_systems_look_at_the_largest_job(
    tmp_path, monkeypatch, programs_, profile_, memory, verdict, said
):
    """By programs that do what the manuals of Grid Engine, PBS and HTCondor say."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, script in (KNOWN | programs_).items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    system, _, named = profile_.partition(" ")
    resources = {"account" if system == "htcondor" else "queue": named} if named else {}
    settings = configured(tmp_path, processors={"mini_v1": {"kind": "mini", "memory_mb_per_core": memory}})
    profile = {"executor": "caxflow", "caxflow-system": system, "default-resources": resources}
    _, one = submission.examine(settings, tmp_path / "config.yaml", profile)
    assert (one.about, one.verdict) == ("test submission", verdict), one
    assert said in one.said
    if system == "pbs":
        assert Path("deleted").read_text().split() == ["17.server"]


def test_s5_a_submission_that_changes_something_is_none_where_nothing_may_be(tmp_path, programs, monkeypatch):
    programs(qsub="exit 3", qstat="", qdel="", qselect="")
    profile = {"executor": "caxflow", "caxflow-system": "pbs"}
    settings = configured(tmp_path)
    preview.only_look(True)
    try:
        _, one = submission.examine(settings, tmp_path / "config.yaml", profile)
    finally:
        preview.only_look(False)
    assert (one.verdict, one.said) == (DOUBTFUL, "PBS was not asked: nothing may be changed (dry: true)")


def test_s5_scripts_that_are_not_ours_are_not_tried(tmp_path):
    profile = {"executor": "cluster-generic", "cluster-generic-submit-cmd": "./mine"}
    (one,) = submission.examine(configured(tmp_path), tmp_path / "config.yaml", profile)
    assert one.verdict == DOUBTFUL
    assert "executor cluster-generic" in one.said


def test_a_plugin_that_is_missing(profile, programs, examine):
    programs()
    assert (
        BAD,
        "snakemake-executor-plugin-atlantis is not installed for " + sys.executable,
        "pip install snakemake-executor-plugin-atlantis",
    ) in found(examine(profile(executor="atlantis")), "plugin")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"jobs": "x"}, "jobs"),
        ({"caxflow-lost-afterr": 3}, "unrecognized arguments: --caxflow-lost-afterr"),
        ({"caxflow-system": {"slurm": 1}}, "there is no batch system"),
        ({"caxflow-longest-wait": float("nan")}, "caxflow-longest-wait is not from 0 to a year"),
        ({"caxflow-options": "'"}, "caxflow-options in the profile: No closing quotation"),
    ],
)
def test_a_profile_that_snakemake_or_its_executor_would_refuse(profile, programs, examine, said, words):
    programs(sbatch="exit 0", squeue="exit 0", scancel="exit 0", sinfo="exit 0")
    answers = found(examine(profile(**{"executor": "caxflow", "caxflow-system": "slurm"} | said)), "profile")
    (bad,) = [said for verdict, said, _ in answers if verdict == BAD]
    assert words in bad


def test_a_folder_that_hides_the_profile(tmp_path, profile, examine):
    folder = profile()
    (one,) = found(examine(folder), "profile")
    assert one == (GOOD, f"snakemake --profile midway finds {folder}", "")
    Path("midway").mkdir()
    # One beside the clone is found by its path only.
    apart = tmp_path / "site/midway"
    apart.mkdir(parents=True)
    (apart / "config.yaml").write_text("cores: 1")
    (one,) = found(examine(apart), "profile")
    assert one == (GOOD, f"snakemake --profile {apart} finds {apart}", "")
    (one,) = found(examine(folder), "profile")
    assert one == (
        BAD,
        f"a folder midway in {tmp_path}/clone hides the profile from snakemake",
        "mv midway midway.old",
    )


def test_a_profile_that_is_a_file_and_one_over_it(tmp_path, profile, programs, examine):
    programs(sbatch="", squeue="", scancel="", sinfo="echo node")
    folder = profile(executor="local")
    other = folder / "batch.yaml"
    other.write_text(yaml.safe_dump({"executor": "caxflow", "caxflow-system": "slurm"}))
    findings = examine(other)
    assert found(findings, "profile") == [(GOOD, f"snakemake --profile {other} finds {other}", "")]
    assert found(findings, "batch system")[0][0] == GOOD
    assert found(examine(folder), "batch system") == []
    both = list(doctor.examine(configured(tmp_path), [folder / "config.yaml", other]))
    assert [one[0] for one in found(both, "profile")] == [GOOD, GOOD]
    assert found(both, "batch system")[0][0] == GOOD


def test_a_profile_that_is_not_linked(tmp_path, monkeypatch, examine):
    monkeypatch.chdir("/")
    (one,) = found(examine(config.HOME / "profiles/midway"), "profile")
    assert one[0] == BAD
    assert one[2] == "make install"


@pytest.mark.parametrize(
    ("definition", "verdict", "said"),
    [
        ({"kind": "mini"}, GOOD, "is the embedded one"),
        ({"command": "paxer {input} {output_stem}"}, BAD, "paxer is not on the PATH"),
        ({"command": "paxer {input} {output_stem}", "conda": "pax"}, BAD, "conda is not on the PATH"),
        ({"command": "sh {input} {output_stem}"}, GOOD, "sh is there"),
    ],
)
def test_the_processor(examine, programs, definition, verdict, said):
    programs(sh="")
    full = {"kind": "command", "pax_version": "v6.11.2"} | definition
    if full["kind"] == "mini":
        del full["pax_version"]
    (one,) = found(examine(processors={"mini_v1": full}), "processor")
    assert one[0] == verdict
    assert said in one[1]


@pytest.mark.parametrize("there", [True, False])
def test_the_processor_says_what_it_inherits(tmp_path, programs, there):
    if there:
        programs(conda="")
    else:
        programs()
    configured(tmp_path)
    main = tmp_path / "config/config.yaml"
    pax = {"kind": "command", "pax_version": "v6.11.2", "command": "p {input} {output}", "conda": "pax"}
    main.write_text(yaml.safe_dump(yaml.safe_load(main.read_text()) | {"processors": {"mini_v1": pax}}))
    own = {"site": "midway", "processors": {"mini_v1": {"command": "mine {input} {output}"}}}
    (one,) = found(doctor.examine(config.load(own, main.parent), []), "processor")
    assert one[0] == (GOOD if there else BAD)
    assert f"its command inherits conda of {main}, which null takes out" in one[1]


def test_a_clock_that_is_off():
    assert finding.clock("clock", 0.2, "ours").verdict == GOOD
    off = finding.clock("clock", 600, "the runs database's")
    assert (off.verdict, off.mend) == (DOUBTFUL, "timedatectl set-ntp true")
    assert off.said.startswith("10 min off the runs database's")
