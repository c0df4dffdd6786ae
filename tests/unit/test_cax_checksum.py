"""``checksum`` of entries is what it is for cax: taken, carried, brought back, asked for."""

import math
import time

import pytest

import caxrows
from caxflow import documents, versions
from caxflow.monitoring import consistency
from caxflow.planning import readings
from caxflow.stages import scrub
from copies import SITES, Copies, now

RUN = "160315_1432"


@pytest.fixture
def copies(tmp_path, database, database_uri):
    with Copies(tmp_path, database_uri, database.name) as copies:
        yield copies


def cax(copies, site="lngs"):
    return caxrows.checksum(copies.path(site))


def rows(copies):
    return {site: copies.row(site)["checksum"] for site in SITES}


def earlier(copies, *sites):
    """Have rows as earlier versions wrote them."""
    for site in sites:
        copies.set(site, checksum=copies.row(site)["manifest"], pax_version=None)


def test_rows_of_earlier_versions_are_brought_over_once(copies):
    copies.add()
    earlier(copies, *SITES)
    copies.set("lngs", checksum=cax(copies))
    # What other programs wrote is theirs.
    others = [
        {"type": "raw", "host": "else", "checksum": "a:b"},
        {"type": "raw", "host": "rucio-catalogue", "status": "transferred", "checksum": "adler32:1a2b3c4d"},
        {"type": "raw", "host": "castor", "checksum": "sha256:" + "0" * 64},
    ]
    copies.database.runs.update_one({}, {"$push": {"data": {"$each": others}}})
    before = copies.database.runs.find_one()
    assert versions.upgrade_database(copies.database)
    assert rows(copies) == dict.fromkeys(SITES, cax(copies))
    after = copies.database.runs.find_one()
    assert [row for row in after["data"] if "pax_version" in row] == []
    assert after["data"][3:] == others
    # Nothing else has changed, and nothing does any more.
    for document in (before, after):
        for row in document["data"]:
            row.pop("checksum")
            row.pop("pax_version", None)
    assert before == after
    assert copies.database.give_checksums_back() == 0
    assert not versions.upgrade_database(copies.database)


def test_rundb_init_does_what_check_sends_to_it_for(copies, zygote):
    """A row that an earlier version wrote after the others had been brought over."""
    copies.add()
    copies.set("lngs", checksum=cax(copies))
    words = ["--profile", copies.profile()]
    assert zygote.call("command", ["rundb", "init", *words])["status"] == 0
    earlier(copies, "midway", "tegner")
    assert "-> caxflow rundb init" in zygote.call("command", ["rundb", "check", *words])["out"]
    assert zygote.call("command", ["rundb", "init", *words])["status"] == 0
    assert rows(copies) == dict.fromkeys(SITES, cax(copies))
    assert "rundb init" not in zygote.call("command", ["rundb", "check", *words])["out"]


def test_what_no_copy_has_is_taken_by_a_scrub_of_one_for_all(copies):
    copies.add()
    earlier(copies, *SITES)
    versions.upgrade_database(copies.database)
    assert rows(copies) == dict.fromkeys(SITES)
    settings, document = copies.settings("lngs"), copies.database.runs.find_one()
    (odd,) = consistency.surprises(document, settings, now())
    assert "its raw copy at xe1t-datamanager has no sha512 for cax to compare with -> snakemake scrub" in odd
    (due,) = readings.select_readings(readings.readings([document], settings), settings, now())[0]
    assert due.unsummed
    scrub.read_one(copies.subject("lngs", here="lngs"))
    assert rows(copies) == dict.fromkeys(SITES, cax(copies))
    assert list(consistency.surprises(copies.database.runs.find_one(), settings, now())) == []
    document = copies.database.runs.find_one()
    assert readings.select_readings(readings.readings([document], settings), settings, now())[0] == []


@pytest.mark.parametrize("odd", [None, "missing", "n/a", "xxh128:00"])
def test_a_copy_that_lacks_what_the_master_has_gets_it(copies, odd):
    copies.add()
    copies.set("midway", checksum=odd)
    if odd == "missing":
        copies.database.runs.update_one({}, {"$unset": {"data.1.checksum": ""}})
    assert documents.lacks_checksum(*_copy(copies, "midway"))
    scrub.read_one(copies.subject())
    assert copies.row("midway")["checksum"] == cax(copies)
    assert not documents.lacks_checksum(*_copy(copies, "midway"))


def _copy(copies, site):
    document = copies.database.runs.find_one()
    return document, documents.find(document, "raw", SITES[site])


def test_checksums_that_contradict_each_other_are_carried_nowhere(copies):
    copies.add()
    copies.set("lngs", checksum="a" * 128)
    copies.set("tegner", checksum="b" * 128)
    earlier(copies, "midway")
    copies.database.give_checksums_back()
    assert copies.row("midway")["checksum"] is None


def test_what_cax_recorded_wrongly_of_a_copy_goes_with_the_copy(copies, zygote):
    """cax found its copy bad; the one that is made in its place has what it has."""
    copies.add(sites=["lngs"])
    row = {"type": "raw", "host": SITES["midway"], "status": "error", "checksum": "b" * 128}
    row |= {"location": str(copies.path("midway")), "creation_time": now()}
    copies.database.runs.update_one({}, {"$push": {"data": row}})
    done = zygote.call("perform", "all", copies.overrides())
    assert done["status"] == 0, done["said"]
    assert rows(copies) == dict.fromkeys(SITES, cax(copies))


def test_a_copy_of_one_whose_checksum_nobody_knows_has_its_own(copies, zygote):
    copies.add(sites=["lngs"])
    copies.set("lngs", checksum=None)
    done = zygote.call("perform", "all", copies.overrides())
    assert done["status"] == 0, done["said"]
    assert copies.row("midway")["checksum"] == cax(copies)
    assert copies.row("tegner")["checksum"] == cax(copies)


def test_claims_and_leases_show_cax_that_something_is_at_work(copies):
    """Its RetryStalledTransfer forgets what it takes for older than a day."""
    copies.add(sites=["lngs"])
    old = now() - caxrows.AGO
    row = {"type": "raw", "host": SITES["midway"], "status": "error", "creation_time": old}
    copies.database.runs.update_one({}, {"$push": {"data": row | {"location": str(copies.path("midway"))}}})
    subject = copies.subject()
    claim = copies.database.claim(subject.run, subject.key, str(copies.path("midway")), "midway", 30)
    claimed = copies.row("midway")
    assert claimed["creation_time"] == claimed["caxflow"]["since"] > old
    claim._renewed = -math.inf
    claim.renew()
    renewed = copies.row("midway")
    assert renewed["creation_time"] == renewed["caxflow"]["since"] > claimed["creation_time"]


def test_a_hundred_thousand_documents_are_brought_over_quickly(copies):
    document = copies.add()
    earlier(copies, "midway", "tegner")
    first = copies.database.runs.find_one()
    many = [first | {"_id": number, "name": f"{number:06d}_0000"} for number in range(5000)]
    copies.database.runs.insert_many(many)
    begun = time.process_time()
    assert copies.database.give_checksums_back() == 5001
    # Our own share for 100,000 is 20 times that.
    assert time.process_time() - begun < 15
    assert copies.database.runs.count_documents({"data.1.checksum": document["data"][0]["checksum"]}) == 5001
