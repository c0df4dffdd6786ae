"""Where passwords and keys come from, and what other programs can see of them."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

import needs
import thief
from caxflow import credentials, variables
from caxflow.errors import CaxflowError
from caxflow.processing import commands

NAME, SECRET = "SC_API_KEY", f"hunter2-{uuid.uuid4()}"


@pytest.fixture
def python(tmp_path):
    """`python(program, *words, **environment)`: what a program of these words prints, as a main process."""

    def run(program, *words, **environment):
        kept = {name: value for name, value in os.environ.items() if name not in credentials.NAMES}
        done = subprocess.run(
            [sys.executable, "-c", f"from caxflow import credentials\n{program}", *words],
            env=kept | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    return run


@pytest.mark.parametrize("name", credentials.NAMES)
def test_a_main_process_and_what_it_starts_show_none(python, tmp_path, name):
    program = f"""
import ctypes, os, subprocess, sys
credentials.share()
print(credentials.get({name!r}), ctypes.CDLL(None).prctl(3))
print(b"hunter2-" in open("/proc/self/environ", "rb").read(), {name!r} in os.environ)
subprocess.run([sys.executable, *sys.argv[1:]], check=True)
"""
    said = python(program, thief.__file__, SECRET, "loot", **{name: SECRET})
    assert said.splitlines() == [f"{SECRET} 0", "False False"]
    # The child is a job, which may have it; for it all the others show nothing.
    found = json.loads((tmp_path / "loot").read_text())
    assert found["others"] == []
    assert SECRET in "".join(found["asked"])


def test_jobs_are_given_it_and_programs_in_them_are_not(python, tmp_path):
    program = f"""
import pathlib, subprocess, sys
credentials.share()
job = '''
import pathlib, sys
from caxflow import credentials
from caxflow.processing import commands
print(credentials.get("{NAME}"))
commands.run([sys.executable, *sys.argv[1:]], pathlib.Path.cwd(), pathlib.Path("log").absolute())
'''
subprocess.run(["sh", "-c", 'true; "$@"; true', "sh", sys.executable, "-c", job, *sys.argv[1:]], check=True)
"""
    assert python(program, thief.__file__, SECRET, "loot", **{NAME: SECRET}).splitlines() == [SECRET]
    found = json.loads((tmp_path / "loot").read_text())
    assert found["others"] == []
    assert SECRET not in "".join(found["asked"])


def test_who_is_no_job_is_given_nothing(python):
    program = f"""
import os, subprocess, sys
credentials.share()
# Of a grandchild whose parent has ended another process takes care.
asked = "import os, time; from caxflow import credentials, processes\\n" \\
    "while processes.status(os.getpid()).parent == int(os.environ['PARENT']): time.sleep(0.01)\\n" \\
    "print(credentials.get('{NAME}'))"
script = 'PARENT=$$ "$@" & exit'
print(subprocess.run(["sh", "-c", script, "sh", sys.executable, "-c", asked], stdout=-1, text=True).stdout)
"""
    assert python(program, **{NAME: SECRET}).split() == ["None"]


def test_where_no_output_is_open_the_socket_is_none(python):
    program = """
import os, sys
os.close(1)
sys.stdout = None
sys.argv[1:] = ["--version"]
from caxflow import cli
try:
    cli.main()
except SystemExit:
    print(os.readlink("/proc/self/fd/1"), credentials.get("SC_API_KEY"), file=sys.stderr)
"""
    assert python(f"import os\nos.dup2(1, 2)\n{program}", **{NAME: SECRET}).split() == ["/dev/null", SECRET]


def test_it_may_come_from_a_file_or_from_systemd(tmp_path, monkeypatch):
    monkeypatch.delenv(NAME, raising=False)
    for variable, path in ((f"{NAME}_FILE", tmp_path / "key"), ("CREDENTIALS_DIRECTORY", tmp_path / NAME)):
        path.write_text("sesame open\n")
        path.chmod(0o600)
        with monkeypatch.context() as patch:
            patch.setenv(variable, str(tmp_path if path.name == NAME else path))
            assert credentials.get(NAME) == "sesame open"
            assert credentials.get("CAXFLOW_WEBHOOK") is None
            path.chmod(0o604)
            with pytest.raises(CaxflowError, match=r"is open to.* others -> .*chmod 600"):
                credentials.get(NAME)


def test_a_file_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv(NAME, raising=False)
    monkeypatch.setenv(f"{NAME}_FILE", str(tmp_path / "none"))
    with pytest.raises(CaxflowError, match=r"SC_API_KEY_FILE: .*none cannot be read: No such file"):
        credentials.get(NAME)


def test_what_is_no_file_is_not_waited_for_and_an_empty_one_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv(NAME, raising=False)
    monkeypatch.setenv(f"{NAME}_FILE", str(tmp_path / "key"))
    os.mkfifo(tmp_path / "key", 0o600)
    with pytest.raises(CaxflowError, match=r"SC_API_KEY_FILE: .*key is no file -> "):
        credentials.get(NAME)
    (tmp_path / "key").unlink()
    (tmp_path / "key").touch(0o600)
    with pytest.raises(CaxflowError, match=r"SC_API_KEY_FILE: .*key is empty -> "):
        credentials.get(NAME)


def test_secrets_are_in_no_message(python):
    program = f"""
credentials.hold()
from caxflow.errors import CaxflowError
for error in CaxflowError("it answers {SECRET}", "ask {SECRET}"), CaxflowError("mongodb://me:a/b@c@db/run"):
    print(error, error.what, error.mend)
"""
    said = python(program, MONGO_PASSWORD=SECRET, CAXFLOW_MAIL_USER="answers")
    assert "it answers" in said
    assert said.count("${MONGO_PASSWORD}") == 4
    assert said.count("mongodb://db/run") == 2
    assert SECRET not in said


# Asks, and where that gives nothing kills what watches over it, and asks again as a child of another process.
ORPHAN = """
import os, signal, socket, time
name, parent = os.environ["X_NAME"].encode(), os.getppid()
for again in range(2):
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(b"\\0" + name)
        open("../answers", "ab").write(b"<%s>" % asking.recv(65536))
    if not again:
        os.kill(parent, signal.SIGKILL)
        while os.getppid() == parent:
            time.sleep(0.01)
open("../answers", "ab").write(b"done")
"""


def test_a_program_is_given_none_by_whatever_clone_it_is_started_nor_as_an_orphan(python, tmp_path):
    clone = tmp_path / "clone"
    clone.symlink_to(Path(credentials.__file__).parents[1])
    program = f"""
import os, subprocess, sys
from caxflow import family
credentials.share()
family.adopt_orphans()  # as the first process of a container does
job = '''
import os, pathlib, sys
from caxflow import credentials
from caxflow.errors import CaxflowError
from caxflow.processing import commands
os.environ["X_NAME"] = os.environ["CAXFLOW_CREDENTIALS"]
pathlib.Path("job").mkdir()
try:
    words = [sys.executable, "-c", sys.argv[1]]
    commands.run(words, pathlib.Path("job").absolute(), pathlib.Path("log").absolute(), ["X_NAME"])
except CaxflowError:
    print(credentials.get("{NAME}"))
'''
clone = os.environ | {{"PYTHONPATH": {str(clone)!r}}}
subprocess.run([sys.executable, "-c", job, sys.argv[1]], env=clone, check=True)
while family.bury():
    pass
"""
    assert python(program, ORPHAN, **{NAME: SECRET}).split() == [SECRET]
    assert (tmp_path / "answers").read_text() == "<><>done"


CHAIN = """
import subprocess, sys
from caxflow import credentials
credentials.share()
print(credentials.get("SC_API_KEY"), flush=True)
if len(sys.argv) > 2:
    subprocess.run([sys.executable, "-c", sys.argv[1], *sys.argv[1:-1]], check=True)
"""


def test_jobs_of_a_daemon_are_given_it_where_proc_hides_others_and_the_daemon_is_the_first(python):
    contained = needs.hidden_processes("--pid", "--fork")
    program = """
import os, sys
os.execvp(sys.argv[2], [*sys.argv[2:], sys.executable, "-c", sys.argv[1], sys.argv[1], "one", "two"])
"""
    assert python(program, CHAIN, *contained, **{NAME: SECRET}).split() == [SECRET] * 3


def test_another_account_that_took_the_name_is_not_believed(python):
    needs.root()
    program = f"""
import os, socket, subprocess, sys
name, user = sys.argv[1:]
with socket.socket(socket.AF_UNIX) as server:
    server.bind("\\0" + name)
    os.seteuid(int(user))
    server.listen()
    os.seteuid(0)
    if not os.fork():
        with server.accept()[0] as peer:
            peer.sendall(b'{{"{NAME}": "theirs"}}')
        os._exit(0)
ask = "from caxflow import credentials; print(credentials.get('{NAME}'))"
subprocess.run([sys.executable, "-c", ask], env=os.environ | {{"CAXFLOW_CREDENTIALS": name}}, check=True)
"""
    name = f"caxflow-{uuid.uuid4()}"
    assert python(program, name, "0").split() == ["theirs"]
    assert python(program, name, "65534").split() == ["None"]


def test_secrets_are_in_no_message_however_they_are_written(python):
    program = r"""
import json, os, urllib.parse
from caxflow.errors import CaxflowError
secret = os.environ["SC_API_KEY"].strip()
credentials.hold()
quoted = urllib.parse.quote
addressed = quoted(secret), quoted(secret, safe=""), urllib.parse.urlencode({"": secret})
for said in *addressed, json.dumps(secret), repr(secret):
    print(CaxflowError(f"of {said} nothing is shown: hunter"))
"""
    said = python(program, SC_API_KEY=' hun "ter/2\\é\n')
    assert said.count("${SC_API_KEY}") == said.count("nothing is shown: hunter") == 5
    assert "ter/2" not in said
    assert "hun%20" not in said


WANTED = {"PATH": "/bin", "LC_TIME": "C", "PYTHONPATH": "/lib", "OMP_NUM_THREADS": "1", "CAXFLOW_SHOWN": "1"}
REFUSED = {
    "MONGODB_PASSWORD": "x",
    "MONGODB_PASSWORD_FILE": "/x",
    "CAXFLOW_WEBHOOK": "x",
    "CAXFLOW_MAIL_USER": "x",
    "CAXFLOW_CREDENTIALS": "x",
    "CREDENTIALS_DIRECTORY": "/run/x",
    "SSH_AUTH_SOCK": "/tmp/x",
    "AWS_SECRET_ACCESS_KEY": "x",
    "CONDA_TOKEN": "x",
    "SLURM_JWT": "x",
    "PBS_JOBCOOKIE": "x",
    "APPTAINER_DOCKER_PASSWORD": "x",
    "APPTAINERENV_RUNS": "mongodb://me:hunter2@db/run",
    "SLACK": "https://hooks.example/T1",
    "SNAKEMAKE_PROFILE": "midway",
    "EDITOR": "vi",
}


@pytest.mark.parametrize("given", [variables.for_jobs, variables.for_programs])
def test_jobs_and_programs_get_what_is_named(given):
    assert given(WANTED | REFUSED) == WANTED


def test_what_the_configuration_names_reaches_the_program(tmp_path, monkeypatch):
    monkeypatch.setenv("PAX_DATA", "/data/pax")
    monkeypatch.setenv("OTHER_DATA", "/data/other")
    monkeypatch.setattr(variables, "_more", set())
    environment = commands.Environment.read({"variables": ["PAX_DATA"]}, "processor x")
    program = "import json, os; print(json.dumps({k: v for k, v in os.environ.items() if 'DATA' in k}))"
    words = environment.wrap([sys.executable, "-c", program], tmp_path)
    last = commands.run(words, tmp_path, tmp_path / "log", environment.variables)
    assert json.loads(last) == {"PAX_DATA": "/data/pax"}
    # It goes with the job of a batch system, too, where the program is run.
    assert variables.for_jobs(os.environ)["PAX_DATA"] == "/data/pax"


@pytest.mark.parametrize("name", ["MONGODB_PASSWORD", "pax_token", "A B", "A=1", "1A"])
def test_a_secret_or_no_name_is_refused(name):
    with pytest.raises(CaxflowError, match=rf"processor x: variables: .*{name}.* -> "):
        commands.Environment.read({"variables": [name]}, "processor x")
