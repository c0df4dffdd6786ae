"""Profiles are linked where Snakemake looks, and nothing that is there already is touched."""

import hashlib
import os
import re
import shutil
import subprocess
import zipfile

import pytest

from caxflow.config import HOME
from caxflow.errors import CaxflowError
from caxflow.install import link_profiles, main, path_hint, plugin_hints
from caxflow.planning import planner


@pytest.fixture
def profiles(tmp_path):
    for name in ("midway", "tegner"):
        (tmp_path / "clone" / "profiles" / name).mkdir(parents=True)
        (tmp_path / "clone" / "profiles" / name / "config.yaml").write_text("cores: 1\n")
    (tmp_path / "clone" / "profiles" / "README.md").write_text("not a profile")
    return tmp_path / "clone" / "profiles"


def test_links_each_profile_and_does_nothing_the_second_time(profiles, tmp_path):
    folder = tmp_path / "home" / "snakemake"
    done, refused = link_profiles(profiles, folder)
    assert (len(done), refused) == (2, [])
    assert sorted(path.name for path in folder.iterdir()) == ["midway", "tegner"]
    assert (folder / "midway" / "config.yaml").read_text() == "cores: 1\n"
    done, refused = link_profiles(profiles, folder)
    assert done == [f"{folder / name} is in place" for name in ("midway", "tegner")]
    assert refused == []


def test_no_other_account_may_write_to_the_folder(profiles, tmp_path):
    before = os.umask(0o002)
    try:
        assert main(str(profiles), str(tmp_path / "home/snakemake")) == 0
    finally:
        os.umask(before)
    assert (tmp_path / "home/snakemake").stat().st_mode & 0o022 == 0


def test_never_replaces_what_is_not_its_own(profiles, tmp_path, capsys):
    folder = tmp_path / "home"
    (folder / "midway").mkdir(parents=True)
    (folder / "midway" / "notes").write_text("mine")
    (folder / "tegner").symlink_to("/another/clone/profiles/tegner")
    assert main(str(profiles), str(folder)) == 1
    assert (folder / "midway" / "notes").read_text() == "mine"
    assert str((folder / "tegner").readlink()) == "/another/clone/profiles/tegner"
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith(f"{folder / 'midway'} is not a link of ours -> ")
    assert said[1].startswith(f"{folder / 'tegner'} leads to /another/clone/profiles/tegner -> ")


def test_a_profile_of_ones_own_is_in_order(profiles, tmp_path, capsys):
    own = tmp_path / "site/profiles/midway"
    shutil.copytree(profiles / "midway", own)
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "midway").symlink_to(own)
    assert main(str(profiles), str(folder)) == 0
    assert (folder / "midway").readlink() == own
    assert f"{folder / 'midway'} stays what it is, {own}; remove it" in capsys.readouterr().out


def test_a_folder_that_cannot_be_made_is_one_line(profiles, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(str(profiles), str(tmp_path / "file" / "snakemake")) == 1
    assert capsys.readouterr().err.startswith(f"{tmp_path / 'file' / 'snakemake'}: Not a directory -> ")


def test_tells_how_to_reach_snakemake(tmp_path, monkeypatch):
    for place in ("ours", "other"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "snakemake").touch(mode=0o755)
    ours = tmp_path / "ours"
    monkeypatch.setenv("PATH", f"{ours}:{tmp_path / 'other'}")
    assert path_hint(ours) == f"snakemake is on your PATH: {ours / 'snakemake'}"
    monkeypatch.setenv("PATH", str(tmp_path / "other"))
    hint = path_hint(ours)
    assert hint == (
        f'put snakemake on your PATH: export PATH="{ours}:$PATH"'
        f"; the one there now is {tmp_path / 'other' / 'snakemake'}"
    )
    monkeypatch.setenv("PATH", "")
    assert path_hint(ours) == f'put snakemake on your PATH: export PATH="{ours}:$PATH"'


def test_names_the_profiles_whose_plugin_is_not_installed(profiles, tmp_path, capsys):
    assert plugin_hints(profiles) == []
    (profiles / "midway" / "config.yaml").write_text("executor: caxflow\n")
    (profiles / "tegner" / "config.yaml").write_text("executor: moon-base\n")
    install = "pip install snakemake-executor-plugin-moon-base"
    hint = f"profile tegner needs Snakemake's plugin for moon-base: {install}"
    assert plugin_hints(profiles) == [hint]
    assert main(str(profiles), str(tmp_path / "home")) == 0
    assert hint in capsys.readouterr().out


def test_make_in_a_path_with_blanks_wants_an_environment_elsewhere(tmp_path):
    clone, elsewhere = tmp_path / "a clone of mine", tmp_path / "environment"
    shutil.copytree(HOME / "requirements", clone / "requirements")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(HOME / name, clone / name)
    python = elsewhere / "bin/python"
    python.parent.mkdir(parents=True)
    python.touch()

    def make(**environment):
        outside = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        # Only what would be done is told.
        command = ["make", "-n", "demo"]
        return subprocess.run(
            command, check=False, cwd=clone, env=outside | environment, text=True, capture_output=True
        )

    refused = make()
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert f"blanks, as {clone}/.venv: make one elsewhere" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    done = make(VIRTUAL_ENV=str(elsewhere))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{python} -m caxflow.demo\n" in done.stdout


def wheel_of(folder, name, text):
    """Write a wheel by the rules of its format; return its line of a lock file."""
    info = f"{name}-1.dist-info"
    entries = {
        f"{name}.py": text,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    entries[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*entries, f"{info}/RECORD"])
    path = folder / f"{name}-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in entries.items():
            archive.writestr(entry, content)
    return f"{name}==1 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def test_make_install_takes_no_file_but_those_of_the_lock(tmp_path):
    clone, index = tmp_path / "clone", tmp_path / "index"
    (clone / "requirements").mkdir(parents=True)
    index.mkdir()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(HOME / name, clone / name)
    (clone / "requirements/build.txt").write_text(wheel_of(index, "first", "as it was locked"))
    (clone / "requirements/lock.txt").write_text(wheel_of(index, "second", "as it was locked"))
    wheel_of(index, "second", "exchanged since")
    outside = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONNOUSERSITE": "1"}
    outside |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_CONFIG_FILE": os.devnull}
    command = ["make", f"VENV={tmp_path / 'environment'}", "install"]
    done = subprocess.run(command, check=False, cwd=clone, env=outside, text=True, capture_output=True)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    site = next((tmp_path / "environment/lib").glob("python*/site-packages"))
    assert (site / "first.py").read_text() == "as it was locked"
    assert not (site / "second.py").exists()
    assert not (tmp_path / "environment/.caxflow").exists()


def test_every_locked_version_has_hashes_and_no_place():
    lines = [
        line
        for path in (HOME / "requirements").glob("*.txt")
        for line in path.read_text().splitlines()
        if not line.startswith("#")
    ]
    packages = [line for line in lines if not line.startswith(" ")]
    assert len(packages) > 90
    for at, line in enumerate(lines):
        if line in packages:
            assert re.fullmatch(r"[a-z0-9-]+==[\w.]+ \\", line)
            assert lines[at + 1].startswith("    --hash=sha256:")
        else:
            assert re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line)


def test_an_interpreter_whose_path_a_shell_would_part_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "")
    planner.use_library(tmp_path)
    monkeypatch.setattr("sys.executable", "/home/a user/.venv/bin/python")
    with pytest.raises(
        CaxflowError, match=r"cannot start jobs by /home/a user/\.venv.* -> have the environment"
    ):
        planner.use_library(tmp_path)
