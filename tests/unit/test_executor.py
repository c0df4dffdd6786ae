"""The executor plugin in a small workflow, with commands of Slurm that say what they are told to."""

import os
import signal
import subprocess
import sys

from waiting import until

SNAKEFILE = """
rule all:
    input: "a", "b"
rule a:
    output: "a"
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


def test_a_job_with_many_inputs_is_taken_up_wherever_it_is_in_the_next_call(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "parts").mkdir()
    for number in range(30):
        (tmp_path / f"parts/{number}").touch()
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    for name, script in {
        "sbatch": SBATCH,
        "squeue": "#!/bin/sh\nprintf '%s|RUNNING|1:00:00|None\\n' 1 2\n",
        "scancel": '#!/bin/sh\necho "$*" >> scancel.words\n',
    }.items():
        (tmp_path / "bin" / name).write_text(script)
        (tmp_path / "bin" / name).chmod(0o755)
    log, submitted = tmp_path / "said", tmp_path / "sbatch.words"

    def is_known(jobs):
        so_far = submitted.read_text().splitlines() if submitted.exists() else []
        return len(so_far) == jobs or "goes on as job" in log.read_text()

    words = [sys.executable, "-m", "snakemake", "--executor", "caxflow", "--caxflow-system", "slurm"]
    words += ["--jobs", "4", "--nolock", "--seconds-between-status-checks", "1"]
    path = f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}"
    for target, known in (("all", 2), ("b", 3)):
        with log.open("w") as stream:
            process = subprocess.Popen(
                [*words, target],
                cwd=tmp_path,
                env=os.environ | {"PATH": path},
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            until(lambda known=known: is_known(known), "jobs that are submitted or taken up", 120)
            process.send_signal(signal.SIGTERM)
            process.wait(120)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    assert "(b) goes on as job" in log.read_text()
    assert not (tmp_path / "scancel.words").exists()
