"""A preview changes nothing, anywhere, and stays small."""

import sys

from caxflow import receipts
from caxflow.targets import Run, Target
from caxflow.workdir import journal
from clones import HOSTS, changed, contents, snapshot

RUN = "160315_1432"
SITES = ("lngs", "midway", "tegner")
# The peak of a process counts from its fork: so a small one starts it, not this one.
PEAK = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:])
print("peak", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(done.returncode)
"""


def test_a_preview_changes_nothing_on_disk_nor_in_the_database(clone, runs, database):
    runs.insert_many([clone.document(), clone.document("160314_0000", at=())])
    # What an earlier call could not tell would be told by a real one.
    entry = {"kind": "raw", "host": HOSTS["midway"], "location": "/x"}
    journal.fail(clone.work(), Target("midway", Run(RUN), "raw.done"), "disk full", entry=entry)
    receipts.write(clone.work() / "lngs/160314_0000.raw.done", {"entry": {"kind": "raw"}})
    journal.announce(clone.work(), Target("lngs", Run("160314_0000"), "raw.done"))
    before = snapshot(clone.folder, clone.data, clone.home), contents(database)
    for target in ("all", f"midway/{RUN}.processed.root"):
        said = clone.snakemake("-n", target)
        assert said.status == 0, said.text
        assert said.rules["copy_raw"] >= 1
    said = clone.snakemake("--summary", "all")
    assert said.status == 0, said.text
    assert f"midway/{RUN}.checksum" in said.out
    assert changed(before[0], snapshot(clone.folder, clone.data, clone.home)) == set()
    assert contents(database) == before[1]


def test_a_preview_of_a_large_database_stays_small(clone, runs):
    """Of 20,000 runs 50 can be acted on; none has ever been looked at."""
    whole = clone.document()
    del whole["processor"]
    raw = {"type": "raw", "status": "transferred"}
    for start in range(0, 20_000, 2000):
        documents = []
        for index in range(start, start + 2000):
            day, hour = divmod(index, 24)
            name = f"{day // 336 + 10}{day // 28 % 12 + 1:02d}{day % 28 + 1:02d}_{hour:02d}00"
            places = {site: f"{clone.data}/{site}/raw/{name}" for site in SITES}
            entries = [raw | {"host": HOSTS[site], "location": place} for site, place in places.items()]
            kept = entries[:1] if index % 400 == 0 else entries
            documents.append(whole | {"name": name, "number": index, "data": kept})
        runs.insert_many(documents)
    words = ["snakemake", "--profile", "midway", "-n", "all", "--config", "kinds=[raw]"]
    said = clone.run(sys.executable, "-c", PEAK, *words)
    assert said.status == 0, said.text
    assert "50 runs to work on at midway" in said.err
    assert int(said.err.split("peak ")[1]) < 300 * 1024
