"""A copy replaced by what was made anew elsewhere: whole at every step, and nothing is left over."""

import datetime

import pytest

from caxflow import transfer
from caxflow.config import reach
from caxflow.copies import renewal
from caxflow.copies.subject import Subject
from caxflow.errors import CaxflowError
from caxflow.files import manifest
from caxflow.rundb import Held, Key
from caxflow.targets import Run
from copies import SITES, Copies

RUN = Run("160315_1432")
KEY = Key("processed", SITES["tegner"], "v0.0.1")
STEPS = ("copy", "aside", "into place", "record", "remove")


class Cut(Exception):
    """The process ends here."""


@pytest.fixture
def copies(tmp_path, database, database_uri):
    with Copies(tmp_path, database_uri, database.name) as copies:
        for site, content in (("midway", b"made anew"), ("tegner", b"old")):
            path = product(copies, site)
            path.parent.mkdir(parents=True)
            path.write_bytes(content * 1000)
            taken = manifest.take(str(path))
            copies.database.keep_manifest(taken.to_json())
        copies.old = taken.digest
        copies.add()
        yield copies


def product(copies, site):
    return copies.folder / site / "processed" / "pax_v0.0.1" / f"{RUN}.root"


def subject(copies):
    settings = copies.settings()
    return Subject(settings, copies.database, settings.sites["tegner"], RUN, KEY, copies.work(), say=print)


def renew(copies):
    source, path = reach.place(copies.settings(), copies.settings().here), product(copies, "midway")
    expected, place = manifest.take(str(path)), str(product(copies, "tegner"))
    return renewal.renew(subject(copies), source, str(path), place, expected=expected, old=copies.old)


def cut_before(monkeypatch, step):
    """End it before this step."""
    done = iter(STEPS)

    def counted(call):
        def do(*arguments, **keys):
            if next(done) == step:
                raise Cut
            return call(*arguments, **keys)

        return do

    for module, name in ((transfer, "copy"), (renewal.audit, "record"), (transfer, "rename")):
        monkeypatch.setattr(module, name, counted(getattr(module, name)))
    monkeypatch.setattr(transfer, "remove_tree", counted(transfer.remove_tree))


def test_who_was_stopped_while_another_renewed_it_keeps_the_new_file(copies, monkeypatch):
    rename = transfer.rename

    def woken(*arguments, **named):
        """While it was stopped, right before the two change places, another process did it."""
        monkeypatch.setattr(transfer, "rename", rename)
        renew(copies)
        rename(*arguments, **named)

    monkeypatch.setattr(transfer, "rename", woken)
    with pytest.raises(CaxflowError, match="No such file"):
        renew(copies)
    assert product(copies, "tegner").read_bytes() == b"made anew" * 1000
    assert [record["action"] for record in copies.database.audit(RUN)] == ["replaced"]


@pytest.mark.parametrize("step", STEPS)
def test_cut_at_any_step_the_next_attempt_goes_on(copies, monkeypatch, step):
    with monkeypatch.context() as patch:
        cut_before(patch, step)
        with pytest.raises(Cut):
            renew(copies)
    place = product(copies, "tegner")
    if step != "into place":
        # But for a moment, one of the two is there, whole.
        assert place.read_bytes() in (b"old" * 1000, b"made anew" * 1000)
    told = [record["action"] for record in copies.database.audit(RUN)]
    assert told == ["replaced"] * (step == "remove")
    if step == "remove":
        return  # it is in the trash, which `caxflow strays` lists
    renew(copies)
    assert len(copies.database.audit(RUN)) == 1
    assert place.read_bytes() == b"made anew" * 1000
    assert [path.name for path in place.parent.iterdir()] == [place.name]


def test_the_old_one_goes_through_the_trash_and_the_audit_knows(copies):
    copied = renew(copies)
    root = copies.folder / "tegner" / "processed"
    assert [path for path in root.rglob("*.root") if path.is_file()] == [product(copies, "tegner")]
    assert list((root / ".caxflow-trash").iterdir()) == []
    (record,) = copies.database.audit(RUN)
    told = {name: record[name] for name in ("action", "site", "manifest", "by_manifest")}
    assert told == {
        "action": "replaced",
        "site": "tegner",
        "manifest": copies.old,
        "by_manifest": copied.manifest.digest,
    }


def test_what_does_not_arrive_whole_replaces_nothing(copies):
    settings = copies.settings()
    source, path = reach.place(settings, settings.here), str(product(copies, "midway"))
    other, place = manifest.take(str(product(copies, "tegner"))), product(copies, "tegner")
    with pytest.raises(CaxflowError, match="not what was expected"):
        renewal.renew(subject(copies), source, path, str(place), expected=other, old=copies.old)
    assert place.read_bytes() == b"old" * 1000


def test_only_the_copy_that_is_meant_may_be_claimed_instead(copies):
    there = {
        "type": "processed",
        "host": KEY.host,
        "pax_version": KEY.version,
        "status": "transferred",
        "location": "/p",
        "manifest": "xxh128:00",
        "creation_time": datetime.datetime(2016, 11, 2),
    }
    copies.database.runs.update_one({}, {"$push": {"data": there}})
    for instead in (None, "xxh128:11"):
        with pytest.raises(Held, match="is there already"):
            copies.database.claim(RUN, KEY, "/p", "midway", 30, instead=instead)
    copies.database.claim(RUN, KEY, "/p", "midway", 30, instead="xxh128:00")
    with pytest.raises(Held, match="is being made by midway"):
        copies.database.claim(RUN, KEY, "/p", "tegner", 30, instead="xxh128:00")


def test_a_file_of_the_same_size_that_is_neither_stays(copies):
    place = product(copies, "tegner")
    place.write_bytes(b"own" * 1000)
    with pytest.raises(CaxflowError, match="is not replaced, nor removed"):
        renew(copies)
    assert place.read_bytes() == b"own" * 1000
