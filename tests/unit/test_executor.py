"""The executor plugin in a small workflow, with commands of Slurm that say what they are told to."""

import os
import signal
import subprocess
import sys

from waiting import until

SNAKEFILE = """
rule all:
    input: "a", "b", [f"small{n}" for n in range(6)]
rule a:
    output: "a"
    shell: "true"
rule small:
    output: "small{n}"
    group: "small"
    shell: "true"
rule b:
    input: [f"parts/{n}" for n in range(30)]
    output: "b"
    shell: "true"
"""
SBATCH = """#!/bin/sh
echo "$*" >> sbatch.words
wc -l < sbatch.words
"""


def test_jobs_with_many_inputs_and_groups_are_taken_up_wherever_they_are_in_the_next_call(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "parts").mkdir()
    for number in range(30):
        (tmp_path / f"parts/{number}").touch()
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    for name, script in {
        "sbatch": SBATCH,
        "squeue": "#!/bin/sh\nprintf '%s|RUNNING|1:00:00|None\\n' 1 2 3\n",
        "scancel": '#!/bin/sh\necho "$*" >> scancel.words\n',
    }.items():
        (tmp_path / "bin" / name).write_text(script)
        (tmp_path / "bin" / name).chmod(0o755)
    log, submitted = tmp_path / "said", tmp_path / "sbatch.words"

    def are_known(taken_up):
        new = len(submitted.read_text().splitlines()) if submitted.exists() else 0
        return new > 3 or (new == 3 and log.read_text().count("goes on as job") == taken_up)

    words = [sys.executable, "-m", "snakemake", "--executor", "caxflow", "--caxflow-system", "slurm"]
    words += ["--jobs", "4", "--nolock", "--seconds-between-status-checks", "1"]
    words += ["--group-components", "small=6"]
    path = f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}"
    for targets, taken_up in ((["all"], 0), (["b", *(f"small{n}" for n in range(6))], 2)):
        with log.open("w") as stream:
            process = subprocess.Popen(
                [*words, "--", *targets],
                cwd=tmp_path,
                env=os.environ | {"PATH": path},
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            until(lambda number=taken_up: are_known(number), "jobs that are submitted or taken up", 120)
            process.send_signal(signal.SIGTERM)
            process.wait(120)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    assert log.read_text().count("goes on as job") == 2
    assert not (tmp_path / "scancel.words").exists()
