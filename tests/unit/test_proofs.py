"""How old a proof is, does not hang on the times of files."""

import datetime
import os
import shutil
from types import SimpleNamespace

import pytest

from caxflow import clock
from caxflow.errors import CaxflowError
from caxflow.rundb import DatabaseAway
from caxflow.stages import raw
from caxflow.targets import Run, Target
from caxflow.workdir import journal, proofs
from operators import MANIFEST

TARGET = Target("midway", Run("160315_1432"), "checksum")
READ = datetime.datetime(2016, 3, 16, 12, 0, 1, 500_000)
SUMS = MANIFEST.to_sums()


@pytest.fixture
def work(tmp_path):
    """A work directory with a proof."""
    path = tmp_path / "work" / str(TARGET)
    path.parent.mkdir(parents=True)
    proofs.state(tmp_path / "work", TARGET, SUMS, READ, "server")
    path.write_text(SUMS)
    return tmp_path / "work"


def test_touching_and_copying_make_no_proof_younger(work, tmp_path):
    assert proofs.read_at(work, TARGET) == READ
    (work / str(TARGET)).touch()
    assert proofs.read_at(work, TARGET) == READ
    shutil.copytree(work, tmp_path / "copy", copy_function=shutil.copyfile)
    assert proofs.read_at(tmp_path / "copy", TARGET) == READ


@pytest.mark.parametrize("spoil", ["none", "damaged", "of another receipt", "without a time"])
def test_receipts_of_older_versions_are_as_old_as_their_files(work, spoil):
    (stated,) = (work / proofs.FOLDER).iterdir()
    if spoil == "none":
        stated.unlink()
    elif spoil == "damaged":
        stated.write_text("{")
    elif spoil == "without a time":
        stated.write_text(stated.read_text().replace('"read"', '"seen"'))
    else:
        (work / str(TARGET)).write_text(SUMS.replace("0", "1"))
    os.utime(work / str(TARGET), (1_000_000_000, 1_000_000_000))
    assert proofs.read_at(work, TARGET) == datetime.datetime(2001, 9, 9, 1, 46, 40)


def test_it_goes_with_its_receipt(work):
    journal.forget(work, "midway", TARGET.run, "raw")
    assert list((work / proofs.FOLDER).iterdir()) == []
    with pytest.raises(CaxflowError, match="No such file"):
        proofs.read_at(work, TARGET)


def test_whose_time_it_is():
    class Away:
        def now(self):
            raise DatabaseAway("it does not answer")

    began = clock.now()
    read, whose = raw._time(SimpleNamespace(database=Away()))
    assert whose == "host"
    assert datetime.timedelta() <= read - began < datetime.timedelta(minutes=1)
    assert raw._time(SimpleNamespace(database=SimpleNamespace(now=lambda: READ))) == (READ, "server")
