"""Processors: their definition and commands, what they are trusted with, what is published."""

import ast
import configparser
import dataclasses
import os
import pickle
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from pathlib import Path

import pytest
import uproot

from caxflow import simulate
from caxflow.conditions import settings as frozen
from caxflow.conditions.corrections import CORRECTIONS
from caxflow.errors import CaxflowError, Overrun
from caxflow.processing import commands, paxini, processors, products, running
from caxflow.targets import Run

STANDIN = Path(__file__).resolve().parents[1] / "standin_paxer.py"
NAME = "160315_1432"
RUN = Run(NAME)
EVENTS = 30
CORRECTION_NAMES = [each.name for each in CORRECTIONS]
PAXER = (
    f"{shlex.quote(sys.executable)} {shlex.quote(str(STANDIN))} --input {{input}} --output {{output_stem}}"
    " --config {configuration} --config_path {overrides} --input_type {input_type} --output_type root"
    " --cpus {threads} --ignore_rundb"
)


def command(text, **more):
    return processors.read("pax_v6.11.2", {"kind": "command", "command": text} | more)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """A raw run of three zips, never changed."""
    directory = tmp_path_factory.mktemp("raw") / NAME
    simulate.simulate_run(directory, NAME, number=4242, events=EVENTS, events_per_file=10, seed=2)
    return directory


@pytest.fixture
def settings():
    document = simulate.run_document(NAME, number=4242, events=EVENTS, events_per_file=10)
    return frozen.freeze(document, processor="pax_v6.11.2", pax_version="v6.11.2")


@pytest.fixture
def place(tmp_path):
    """Paths of a job."""

    class Place:
        product = tmp_path / "processed" / "pax_v6.11.2" / f"{NAME}.root"
        workdir = tmp_path / "work"
        log = tmp_path / "logs" / "process.log"

        def run(self, processor, raw, settings, **options):
            return running.process(
                processor,
                raw,
                self.product,
                settings=settings,
                threads=4,
                workdir=self.workdir,
                log=self.log,
                **options,
            )

        def kept(self):
            """What failed jobs left: their directories; beside the product there is never anything."""
            folder = self.product.parent
            assert [path for path in folder.iterdir() if path != self.product] == []
            return sorted(self.workdir.iterdir())

    return Place()


def copied(raw, tmp_path):
    return Path(shutil.copytree(raw, tmp_path / "copy" / NAME))


@pytest.mark.parametrize(
    ("name", "definition", "version"),
    [
        ("mini_v1", {"kind": "mini"}, "v0.0.1"),
        ("mini_v12", {"kind": "mini"}, "v0.0.12"),
        ("pax_v6.11.2", {"kind": "command", "command": "paxer {input} {output_stem}"}, "v6.11.2"),
        ("patched", {"kind": "mini", "pax_version": "v0.1"}, "v0.1"),
    ],
)
def test_the_version_is_one_that_hax_can_read_and_order(name, definition, version):
    processor = processors.read(name, definition)
    assert processor.pax_version == version
    # hax: every part between the dots is an integer, and the largest version is taken.
    numbers = tuple(map(int, version[1:].split(".")))
    assert numbers < (4, 0, 0) or name.startswith("pax")
    assert processor.product_path("/data/processed", RUN) == Path(
        f"/data/processed/pax_{version}/{NAME}.root"
    )


@pytest.mark.parametrize(
    ("name", "definition", "message"),
    [
        ("pax_v6", {}, "processor pax_v6: kind is None"),
        ("pax_v6", {"kind": "shell"}, "kind is 'shell'"),
        ("mini_v1", {"kind": "mini", "command": "x"}, "unknown key 'command'"),
        ("pax_v6", {"kind": "command"}, "command is None, not text"),
        ("pax_v6", {"kind": "command", "command": ""}, "command is '', not text"),
        ("pax_v6", {"kind": "command", "command": "paxer {input} {outptu}"}, "unknown placeholder {outptu}"),
        ("pax_v6", {"kind": "command", "command": "paxer {input.__class__} {output}"}, "more than a name"),
        ("pax_v6", {"kind": "command", "command": "paxer {input!r} {output}"}, "more than a name"),
        ("pax_v6", {"kind": "command", "command": "paxer {} {output}"}, "more than a name"),
        ("pax_v6", {"kind": "command", "command": "paxer {input} '{output}"}, "No closing quotation"),
        ("pax_v6", {"kind": "command", "command": "paxer {input} {output"}, "cannot be read"),
        ("pax_v6", {"kind": "command", "command": "paxer {input}"}, "where to read and write"),
        ("pax_v6", {"kind": "command", "command": "paxer {output}"}, "where to read and write"),
        (
            "pax_v6",
            {"kind": "command", "command": "p {input} {output}", "conda": "a", "container": "b"},
            "both conda and container",
        ),
        ("pax_v6", {"kind": "command", "command": "p {input} {output}", "conda": 6}, "conda is 6, not text"),
        ("latest", {"kind": "mini"}, "processor latest: pax_version is None"),
        ("x", {"kind": "mini", "pax_version": "mini_v1"}, "which hax cannot read"),
        ("x", {"kind": "mini", "pax_version": "v1/../.."}, "which hax cannot read"),
        ("mini_v1", {"kind": "mini", "memory_mb_per_core": 0}, "memory_mb_per_core is 0"),
        ("mini_v1", {"kind": "mini", "cpu_ms_per_event": "fast"}, "cpu_ms_per_event is 'fast'"),
    ],
)
def test_a_wrong_definition_names_the_processor_and_the_key(name, definition, message):
    with pytest.raises(CaxflowError) as caught:
        processors.read(name, definition)
    assert str(caught.value).startswith(f"processor {name}")
    assert message in str(caught.value)


def test_two_processors_cannot_share_a_version():
    definitions = {"mini_v1": {"kind": "mini"}, "other": {"kind": "mini", "pax_version": "v0.0.1"}}
    with pytest.raises(CaxflowError, match=r"mini_v1 and other both have pax_version v0\.0\.1"):
        processors.read_all(definitions)
    assert sorted(processors.read_all({"mini_v1": {"kind": "mini"}, "mini_v2": {"kind": "mini"}})) == [
        "mini_v1",
        "mini_v2",
    ]


@pytest.mark.parametrize(
    ("events", "cores", "threads", "reserved"),
    [(999, 8, 1, 2), (1000, 8, 7, 8), (1000, 1, 1, 1), (10, 1, 1, 1), (None, 4, 3, 4)],
)
def test_threads_of_pax(events, cores, threads, reserved):
    pax = command("paxer {input} {output}")
    needed = processors.resources(pax, events=events, cores=cores)
    assert needed.cores == reserved
    assert needed.memory_mb == 2000 * reserved
    assert processors.threads(pax, events=events, cores=needed.cores) == threads


@pytest.mark.parametrize(
    ("events", "cores", "reserved"), [(30, 8, 1), (450, 8, 4), (1000, 8, 8), (None, 4, 4)]
)
def test_the_embedded_processor_uses_all_cores_that_have_work(events, cores, reserved):
    mini = processors.read("mini_v1", {"kind": "mini"})
    needed = processors.resources(mini, events=events, cores=cores)
    assert needed.cores == processors.threads(mini, events=events, cores=cores) == reserved


def test_time_and_memory_grow_with_the_run_and_with_each_attempt():
    pax = command("paxer {input} {output}")
    small, large, huge = (processors.resources(pax, events=n, cores=8) for n in (1000, 32_000, 10**8))
    # 32,000 events of 125 ms on 7 threads take 9.5 minutes.
    assert (small.runtime, large.runtime, huge.runtime) == (31, 59, 48 * 60)
    assert processors.resources(pax, events=None, cores=8).runtime == 48 * 60
    again = processors.resources(pax, events=32_000, cores=8, attempt=2)
    assert (again.runtime, again.memory_mb) == (2 * large.runtime, 2 * large.memory_mb)


def test_a_template_is_split_before_it_is_filled():
    template = commands.Template.read("prog '--a={input}' {{literal}} {number}", processors.PLACEHOLDERS, "x")
    nasty = "/data/$(touch hacked) 'x' \"y\"; {output}\n"
    assert template.fill({"input": nasty, "number": 7}) == ["prog", f"--a={nasty}", "{literal}", "7"]


@pytest.mark.parametrize(
    ("more", "meant"),
    [
        ("> log", ">"),
        ("2>&1", ">&"),
        ("| tee log", "|"),
        ("&& rm x", "&&"),
        ("; rm x", ";"),
        ("--data=$HOME/x", "--data=$HOME/x"),
        ("~/pax.ini", "~/pax.ini"),
    ],
)
def test_what_only_a_shell_would_understand_is_refused(more, meant):
    with pytest.raises(CaxflowError, match=re.escape(f"{meant} in its command means nothing")):
        command(f"{PAXER} {more}")
    quoted = command(f"sh -c '{more}' {PAXER}").template
    assert quoted.words[2] == more


@pytest.mark.parametrize(
    ("environment", "front"),
    [
        ({}, []),
        ({"conda": "pax_v6.11.2"}, ["conda", "run", "--no-capture-output", "-n", "pax_v6.11.2"]),
        ({"conda": "/opt/pax"}, ["conda", "run", "--no-capture-output", "-p", "/opt/pax"]),
        (
            {"container": "pax.sif"},
            ["apptainer", "exec", "--pwd=/job", "--bind=/job:/job", "--bind=/raw:/raw", "pax.sif"],
        ),
    ],
)
def test_environments_stand_in_front_of_the_command(environment, front):
    words = commands.Environment(**environment).wrap(["paxer", "a b"], Path("/job"), [Path("/raw")])
    assert words == [*front, "paxer", "a b"]


def test_a_container_cannot_be_shown_more_than_is_meant():
    with pytest.raises(CaxflowError, match="cannot be shown to a container"):
        commands.Environment(container="pax.sif").wrap(["paxer"], Path("/job"), [Path("/raw:/etc")])


def test_a_setup_line_prepares_but_never_reads_the_arguments(tmp_path):
    nasty = "$(touch hacked) `touch hacked`; touch hacked 'a  b' * \\"
    environment = commands.Environment(setup="export PREPARED='yes it is' # a remark")
    program = "import os, sys; print(os.environ['PREPARED'], sys.argv[1:])"
    words = environment.wrap([sys.executable, "-c", program, nasty], tmp_path)
    commands.run(words, tmp_path, tmp_path / "log")
    assert (tmp_path / "log").read_text().endswith(f"yes it is {[nasty]}\n")
    assert not (tmp_path / "hacked").exists()


def test_a_setup_line_that_fails_ends_the_job(tmp_path):
    words = commands.Environment(setup="false").wrap([sys.executable, "-c", "print('ran')"], tmp_path)
    with pytest.raises(CaxflowError, match="bash exited with 1"):
        commands.run(words, tmp_path, tmp_path / "log")


def test_a_module_is_loaded_by_name(tmp_path, monkeypatch):
    # The function that environment modules define in login shells, here by the profile of a home directory.
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".bash_profile").write_text('module() { [ "$1" = load ] && export LOADED="$2"; }\n')
    words = commands.Environment(module="pax/6.11.2").wrap(
        [sys.executable, "-c", "import os; print(os.environ['LOADED'])"], tmp_path
    )
    commands.run(words, tmp_path, tmp_path / "log")
    assert (tmp_path / "log").read_text().endswith("pax/6.11.2\n")


def test_conda_is_called_as_conda_wants_it(tmp_path, monkeypatch):
    conda = tmp_path / "bin" / "conda"
    conda.parent.mkdir()
    conda.write_text('#!/bin/sh\necho "conda: $*"\nshift 4\nexec "$@"\n')
    conda.chmod(0o755)
    monkeypatch.setenv("PATH", f"{conda.parent}:{os.environ['PATH']}")
    words = commands.Environment(conda="pax").wrap([sys.executable, "-c", "print('hello')"], tmp_path)
    commands.run(words, tmp_path, tmp_path / "log")
    assert "conda: run --no-capture-output -n pax" in (tmp_path / "log").read_text()
    assert (tmp_path / "log").read_text().endswith("hello\n")


def test_a_command_that_fails_in_what_it_inherits_says_so(tmp_path, monkeypatch, simulated, settings, place):
    conda = tmp_path / "bin" / "conda"
    conda.parent.mkdir()
    conda.write_text('#!/bin/sh\necho "EnvironmentLocationNotFound: $4"\nexit 1\n')
    conda.chmod(0o755)
    monkeypatch.setenv("PATH", f"{conda.parent}:{os.environ['PATH']}")
    own = command(PAXER, conda="pax")
    inherited = dataclasses.replace(own, places=[("config.yaml", ["conda"]), ("mine.yaml", ["command"])])
    for processor, said in ((own, False), (inherited, True)):
        with pytest.raises(
            CaxflowError, match="conda exited with 1: EnvironmentLocationNotFound: pax"
        ) as caught:
            place.run(processor, simulated, settings)
        hint = "its command inherits conda of config.yaml, which null takes out"
        assert (hint in caught.value.mend) == said


def test_passwords_are_not_handed_on(tmp_path, monkeypatch):
    for name in ("MONGODB_PASSWORD", "MONGO_PASSWORD", "SC_API_KEY"):
        monkeypatch.setenv(name, "sesame")
    commands.run([sys.executable, "-c", "import os; print(os.environ)"], tmp_path, tmp_path / "log")
    text = (tmp_path / "log").read_text()
    assert "sesame" not in text
    assert f"'TMPDIR': '{tmp_path}/tmp'" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no-such-program"], "no-such-program cannot be started: no such program"),
        ([sys.executable, "-c", "print('so it goes'); exit(3)"], "exited with 3: so it goes"),
        ([sys.executable, "-c", "exit(255)"], "exited with 255: "),
        ([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], "was ended by signal 9 (Killed): "),
    ],
)
def test_a_command_that_fails_says_how(tmp_path, words, message):
    with pytest.raises(CaxflowError) as caught:
        commands.run(words, tmp_path, tmp_path / "log")
    assert message in str(caught.value)


def test_want_of_memory_is_told_from_other_failures(tmp_path):
    starved = "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 28,) * 2); bytes(1 << 30)"
    for program, kind in (
        ("import os; os.kill(os.getpid(), 9)", Overrun),
        (starved, Overrun),
        ("exit('terminate called after throwing an instance of std::bad_alloc')", Overrun),
        # What an earlier attempt said does not count.
        ("exit('the lifetime is negative')", CaxflowError),
    ):
        with pytest.raises(CaxflowError) as caught:
            commands.run([sys.executable, "-c", program], tmp_path, tmp_path / "log")
        assert type(caught.value) is kind


def test_an_interrupted_command_does_not_live_on(tmp_path):
    program = (
        "import os, pathlib, time; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(600);"
        "pathlib.Path('survived').touch()"
    )
    ready = tmp_path / "pid"

    def interrupt():
        while not (ready.exists() and ready.read_text()):
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        commands.run([sys.executable, "-c", program], tmp_path, tmp_path / "log")
    thread.join()
    with pytest.raises(ProcessLookupError):
        os.kill(int(ready.read_text()), 0)
    assert not (tmp_path / "survived").exists()


def test_a_killed_job_leaves_nothing_running(tmp_path):
    program = "import os, pathlib, time; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(600)"
    # As `conda run` does: a program that starts the program, and does not pass signals on.
    words = ["sh", "-c", f"{shlex.quote(sys.executable)} -c {shlex.quote(program)}; true"]
    owner = f"""
import sys; from pathlib import Path
sys.path[:0] = {sys.path!r}
from caxflow.processing import commands
commands.run({words!r}, Path({str(tmp_path)!r}), Path({str(tmp_path / "log")!r}))
"""
    ready = tmp_path / "pid"
    job = subprocess.Popen([sys.executable, "-c", owner])
    while not (ready.exists() and ready.read_text()):
        assert job.poll() is None
        time.sleep(0.01)
    job.kill()
    job.wait()
    left = Path("/proc", ready.read_text())
    for _ in range(3000):
        if not left.exists():
            break
        time.sleep(0.01)
    assert not left.exists()


def test_what_a_program_leaves_behind_ends_with_it(tmp_path):
    commands.run(["sh", "-c", "sleep 600 & echo $! > pid"], tmp_path, tmp_path / "log")
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


def read_as_pax_does(text):
    reader = configparser.ConfigParser(
        inline_comment_prefixes="#",
        interpolation=configparser.ExtendedInterpolation(),
        strict=True,
        default_section="there is none",
    )
    reader.optionxform = str
    reader.read_string(text)
    return {
        name: {key: ast.literal_eval(value) for key, value in reader[name].items()}
        for name in reader.sections()
    }


def test_overrides_are_what_pax_reads(settings):
    odd = {"text": "a # b ; c $d ${e} %(f)s 'g' \"h\" \\ \n [i] é", "CamelCase": [1, {"k": None}], "on": True}
    own = {"word": "nn-5.npz", "CamelCase": [1, 2.5, "a"], "on": True, "nothing": None}
    settings["processor"] |= {"NeuralNet|PosRecNeuralNet": {"neural_net_file": "nn.npz"}, "Own|Plugin": own}
    settings["correction_versions"] = dict.fromkeys(CORRECTION_NAMES, odd["text"])
    also = [f"Own.Plugin.{key}" for key in own]
    read = read_as_pax_does(paxini.render(settings, {"Odd": odd}, also))
    assert read.pop("correction_versions") == settings["correction_versions"] != {}
    assert read.pop("NeuralNet.PosRecNeuralNet") == {"neural_net_file": "nn.npz"}
    assert read.pop("Odd") == odd
    assert read.pop("Own.Plugin") == own
    default = read.pop("DEFAULT")
    assert default.pop("run_number") == 4242
    assert default.pop("run_name") == NAME
    assert default == settings["processor"]["DEFAULT"]
    assert read == {}


def test_what_the_run_says_goes_before_what_the_processor_says(settings):
    extra = {"DEFAULT": {"drift_velocity_liquid": 1.0, "lock_breaking_timeout": 600}, "Queues": {"size": 1}}
    read = read_as_pax_does(paxini.render(settings, extra))
    assert read["DEFAULT"]["drift_velocity_liquid"] == simulate.DRIFT_VELOCITY
    assert read["DEFAULT"]["lock_breaking_timeout"] == 600
    assert read["Queues"] == {"size": 1}


@pytest.mark.parametrize(
    "section",
    [
        {"pax": {"plugin_paths": ["/tmp"]}},
        {"A]\n[pax": {"plugin_paths": 1}},
        {"A B": {}},
        {"A|B": {}, "A.B": {}},
        {"A": {"key = 1\nother": 2}},
        {"A": {"key": float("nan")}},
        {"A": {"key": object()}},
        {"A": {"key": {1: 2}}},
    ],
)
def test_a_document_cannot_smuggle_anything_into_the_overrides(settings, section):
    # However much a site lets documents set.
    also = [f"{name.replace('|', '.')}.{key}" for name, found in section.items() for key in found]
    settings["processor"] |= section
    for admitted in ((), also):
        with pytest.raises(CaxflowError, match=NAME):
            paxini.render(settings, also=admitted)


@pytest.mark.parametrize(("encoding", "name"), [("pickle", "zpickle"), ("bson", "zbson")])
def test_the_input_type_is_seen_in_the_data(tmp_path, encoding, name):
    simulate.simulate_run(
        tmp_path / "raw", NAME, kind="muon_veto", number=0, events=2, seed=1, encoding=encoding
    )
    assert paxini.input_type(tmp_path / "raw") == name


def test_paxer_makes_a_checked_product(simulated, settings, place):
    before = {path: path.stat().st_mtime_ns for path in simulated.iterdir()}
    product = place.run(command(PAXER), simulated, settings)
    assert (product.path, product.events, product.adopted) == (place.product, EVENTS, False)
    with uproot.open(place.product) as file:
        assert file["tree"]["event_number"].array().tolist() == list(range(EVENTS))
        assert sum(file["tree"]["n_pulses"].array()) > 0
    assert running.correction_versions(place.product) == settings["correction_versions"]
    # The class files went with the job's own directory; nothing is left anywhere else.
    assert place.kept() == []
    assert {path: path.stat().st_mtime_ns for path in simulated.iterdir()} == before
    assert "--config XENON1T --config_path" in place.log.read_text()
    assert "--cpus 1 --ignore_rundb" in place.log.read_text()  # it has few events

    # Once more, as after a crash before the receipt: the same file is adopted, nothing runs.
    again = place.run(command("/does/not/exist {input} {output}"), simulated, settings)
    assert again.adopted

    # A newer correction: refused until it is wanted, then made anew in one step.
    newer = settings | {"correction_versions": {**settings["correction_versions"], "AddGains": "9"}}
    with pytest.raises(CaxflowError, match=r"exists already, of corrections .*move it away"):
        place.run(command(PAXER), simulated, newer)
    inode = place.product.stat().st_ino
    assert not place.run(command(PAXER), simulated, newer, replace=True).adopted
    assert running.correction_versions(place.product)["AddGains"] == "9"
    assert place.product.stat().st_ino != inode


@pytest.mark.parametrize("there", [False, True])
def test_r13_one_version_stands_in_file_folder_and_database(simulated, settings, place, there):
    """hax makes minitrees anew, or dies of it, where the file says another version than its folder."""
    if there:
        place.run(command(PAXER), simulated, settings)
    other = processors.read("pax_v6.10.1", {"kind": "command", "command": PAXER})
    with pytest.raises(CaxflowError) as caught:
        place.run(other, simulated, settings)
    said = "160315_1432.root says that version 6.11.2 wrote it, and pax_v6.10.1 is v6.10.1"
    assert said in str(caught.value)
    assert "or set its pax_version" in str(caught.value)
    assert place.product.exists() is there
    named = processors.read("pax_tried", {"kind": "command", "command": PAXER, "pax_version": "v6.11.2"})
    assert place.run(named, simulated, settings).adopted is there


def test_missing_events_are_noticed_though_paxer_exits_with_0(simulated, settings, place):
    with pytest.raises(CaxflowError) as caught:
        place.run(command(PAXER + " --stop_after 20"), simulated, settings)
    assert "160315_1432: pax_v6.11.2: its product is not whole and was not published" in str(caught.value)
    assert "20 events" in str(caught.value)
    assert not place.product.exists()
    (job,) = place.kept()
    assert "look into" in str(caught.value)
    assert str(job) in str(caught.value)
    assert "20 events processed" in (job / "log.txt").read_text()
    assert list(job.glob("pax_event_class-*.so"))
    assert (job / "overrides.ini").is_file()


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([(0, 0), (0, 1), (3, 3)], "hold event 0 twice"),
        ([(0, 1), (2, 2), (9, 9)], "lack event 3"),
        ([(1, 2), (3, 4)], "lack event 0"),
    ],
)
def test_as_many_events_as_were_built_are_not_yet_those(names, reason, settings, place, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    for first, last in names:
        name = f"XENON1T-4242-{first:09}-{last:09}-{last - first + 1:09}.zip"
        with zipfile.ZipFile(raw / name, "w") as archive:
            for number in range(first, last + 1):
                archive.writestr(str(number), b"")
    with pytest.raises(CaxflowError, match=f"^{NAME}: its zips {reason}"):
        place.run(command(PAXER), raw, settings | {"events_built": 4})


def test_a_program_gets_no_events_that_do_something(settings, place, tmp_path):
    raw, trap = tmp_path / "raw", tmp_path / "trap"
    raw.mkdir()

    class Trap:
        def __reduce__(self):
            return os.system, (f"touch {trap}",)

    with zipfile.ZipFile(raw / "XENON1T-4242-000000000-000000000-000000001.zip", "w") as archive:
        archive.writestr("0", zlib.compress(pickle.dumps(Trap(), 3)))
    unpickle = (
        "import pickle,sys,zipfile,zlib,glob; z = zipfile.ZipFile(glob.glob(sys.argv[1] + '/*.zip')[0])"
    )
    code = f"{unpickle}; pickle.loads(zlib.decompress(z.read('0')))"
    program = command(f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} {{input}} {{output}}")
    with pytest.raises(CaxflowError, match=rf"^{NAME}: pax_v6\.11\.2: XENON1T-.*, event 0: .*posix\.system"):
        place.run(program, raw, settings | {"events_built": 1})
    assert not trap.exists()
    # The program would have: it unpickles as pax does.
    subprocess.run([sys.executable, "-c", code, str(raw)], check=True)
    assert trap.exists()


def test_a_missing_zip_is_noticed_before_anything_runs(simulated, settings, place, tmp_path):
    raw = copied(simulated, tmp_path)
    sorted(raw.glob("XENON1T-*.zip"))[1].unlink()
    with pytest.raises(CaxflowError, match=r"160315_1432: its zips hold 20 events, 30 were built"):
        place.run(command(PAXER), raw, settings)
    assert not place.log.exists()


def test_a_damaged_event_leaves_no_partial_file(simulated, settings, place, tmp_path):
    raw = copied(simulated, tmp_path)
    last = sorted(raw.glob("XENON1T-*.zip"))[-1]
    content = bytearray(last.read_bytes())
    content[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
    last.write_bytes(content)
    with pytest.raises(CaxflowError, match=rf"pax_v6\.11\.2: {last.name}, event \d+: "):
        place.run(command(PAXER), raw, settings)
    assert not place.product.exists()
    # No program was given it.
    assert not place.log.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PAXER.replace(" --ignore_rundb", ""), "runs database: no servers found"),
        (
            PAXER.replace("--config {configuration} --config_path {overrides}", ""),
            "wrote no 160315_1432.root",
        ),
        (PAXER.replace("{input_type}", "zbson"), "cannot be decoded as zbson"),
        (PAXER.replace("{output_stem}", "{output}"), "wrote no 160315_1432.root"),
    ],
    ids=["rundb", "no-configuration", "wrong-type", "doubled-extension"],
)
def test_paxers_other_habits_are_errors(simulated, settings, place, text, message):
    with pytest.raises(CaxflowError) as caught:
        place.run(command(text), simulated, settings)
    assert message in str(caught.value)
    assert len(place.kept()) == 1


def test_a_file_that_is_there_is_never_overwritten(simulated, settings, place):
    place.product.parent.mkdir(parents=True)
    place.product.write_bytes(b"precious")
    with pytest.raises(CaxflowError, match=r"exists already and is not whole"):
        place.run(command(PAXER), simulated, settings)
    assert place.product.read_bytes() == b"precious"


def test_r2_a_file_that_nobody_promises_is_adopted_if_it_is_whole_or_made_anew(simulated, settings, place):
    """As pax leaves one when it is killed: it writes to the file's own name."""
    place.product.parent.mkdir(parents=True)
    place.product.write_bytes(b"half of it")
    aside = place.product.parents[1] / ".caxflow-quarantine" / "half"
    made = place.run(command(PAXER), simulated, settings, aside=aside)
    assert (made.adopted, made.events) == (False, EVENTS)
    assert aside.read_bytes() == b"half of it"
    whole = place.product.read_bytes()
    other = aside.with_name("other")
    assert place.run(command(PAXER), simulated, settings, aside=other).adopted
    assert place.product.read_bytes() == whole
    # One of other corrections may have been months of work of another program.
    newer = settings | {"correction_versions": {"AddGains": "of later"}}
    made = place.run(command(PAXER), simulated, newer, aside=other)
    assert (made.adopted, other.read_bytes()) == (False, whole)


def test_what_another_job_published_meanwhile_is_adopted(simulated, settings, place):
    script = shlex.quote(f'"$@" && cp "$0" {shlex.quote(str(place.product))}')
    made = place.run(command(f"sh -c {script} {{output}} {PAXER}"), simulated, settings)
    assert made.adopted
    assert made.events == EVENTS
    assert place.kept() == []


def test_of_two_racing_jobs_one_publishes(tmp_path):
    first, second, product = (tmp_path / name for name in ("first", "second", "product"))
    first.write_text("first")
    second.write_text("second")
    products.publish(first, product)
    with pytest.raises(CaxflowError, match="exists already and is not overwritten"):
        products.publish(second, product)
    assert product.read_text() == "first"


def test_directories_of_failed_jobs_go_after_some_days_and_never_those_of_running_ones(tmp_path):
    assert products.remove_failed(tmp_path, 14) == 0
    day = 24 * 3600
    for name, age in (("old", 20), ("young", 13), ("yesterday", 1), ("in use", 20)):
        (tmp_path / products.JOBS / name).mkdir(parents=True)
        log = tmp_path / products.JOBS / name / "log.txt"
        log.write_text("why")
        for path in (log, log.parent):
            os.utime(path, (time.time() - age * day,) * 2)
    (tmp_path / products.JOBS / "in use" / "pax.log").write_text("events")
    assert products.remove_failed(tmp_path, 14) == 1
    assert sorted(path.name for path in products.failed(tmp_path)) == ["in use", "yesterday", "young"]
    # A job may take two days, whatever is configured.
    assert products.remove_failed(tmp_path, 0) == 1
    assert sorted(path.name for path in products.failed(tmp_path)) == ["in use", "yesterday"]


def test_leftovers_of_killed_jobs_are_found(tmp_path):
    with products.workshop(tmp_path / f"{NAME}.root") as workshop:
        (workshop.path / "partial.root").write_text("x")
        other = shutil.copytree(workshop.path, tmp_path / ".other.root.part-abc")
        (tmp_path / "precious.root").write_text("x")
        assert products.remove_leftovers(tmp_path, older_than=60) == []
        for path in (other, other / "partial.root"):
            os.utime(path, (1, 1))
        assert products.remove_leftovers(tmp_path, older_than=60) == [other]
        assert workshop.path.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["precious.root"]


@pytest.mark.parametrize("kind", ["tpc", "led", "muon_veto"])
def test_the_embedded_processor_makes_a_checked_product(tmp_path, kind):
    name = "160315_1500"
    run = Run(name, "muon_veto" if kind == "muon_veto" else "tpc")
    raw = tmp_path / "raw" / str(run)
    simulate.simulate_run(raw, name, kind=kind, number=5, events=6, events_per_file=3, seed=3)
    mini = processors.read("mini_v1", {"kind": "mini"})
    document = simulate.run_document(name, kind=kind, number=5, events=6, events_per_file=3)
    settings = frozen.freeze(document, processor=mini.name, pax_version=mini.pax_version)
    product = running.process(
        mini,
        raw,
        mini.product_path(tmp_path / "processed", run),
        settings=settings,
        threads=1,
        workdir=tmp_path / "work",
        log=tmp_path / "log",
    )
    assert product.path == tmp_path / "processed" / "pax_v0.0.1" / f"{run}.root"
    assert product.facts["events"] == product.events == 6
    assert running.correction_versions(product.path) == settings["correction_versions"]
    assert list((tmp_path / "work").iterdir()) == []


def test_the_standin_has_paxers_command_line():
    shown = subprocess.run(
        [sys.executable, STANDIN, "--help"], capture_output=True, text=True, check=True
    ).stdout
    for option in shlex.split(PAXER):
        if option.startswith("--"):
            assert option in shown
