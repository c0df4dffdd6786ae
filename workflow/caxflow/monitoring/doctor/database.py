"""The runs database: whether it answers, can be written to, and has its indexes; its clock and ours."""

import datetime
import time
from collections.abc import Iterator

from caxflow.config import Settings, address
from caxflow.monitoring.doctor.finding import BAD, DOUBTFUL, GOOD, Finding, clock
from caxflow.rundb import RunsDB, public, roles


def examine(settings: Settings, profile: str) -> Iterator[Finding]:
    """Check it; `profile` is what the command that mends it is given."""
    about = "runs database"
    for said, fix in address.risks(settings.rundb.uri):
        yield Finding(about, BAD, f"{public(settings.rundb.uri)} {said}", fix)
    with RunsDB(settings.rundb) as database:
        before = time.time()
        theirs = database.now()
        took = time.time() - before
        where = f"{settings.rundb.database}.{settings.rundb.collection}"
        yield Finding(about, GOOD, f"{where} answers in {1000 * took:.0f} ms")
        ours = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        yield clock("clock", abs((theirs - ours).total_seconds()), "the runs database's")
        if settings.dry:
            yield Finding(about, DOUBTFUL, "dry is set: nothing is written to it", "--config dry=false")
        else:
            database.try_writing()
            yield Finding(about, GOOD, "can be written to")
        yield from _rights(database, settings, profile)
        missing = database.missing_indexes(settings.here.name)
        if missing:
            mend = f"caxflow rundb init --profile {profile}"
            yield Finding(about, BAD, f"indexes are missing: {', '.join(missing)}", mend)
        else:
            yield Finding(about, GOOD, "has its indexes")


def _rights(database: RunsDB, settings: Settings, profile: str) -> Iterator[Finding]:
    """Tell whether this user, or any, may remove what no role allows."""
    fix = f"have who administers it run what `caxflow rundb roles --profile {profile}` prints"
    held = database.privileges()
    if held is None and not address.is_here(settings.rundb.uri):
        yield Finding(
            "runs database", DOUBTFUL, "asks for no password: all who reach it may do anything", fix
        )
    for collection, actions in roles.excess(held or (), settings.rundb):
        said = f"this user may do more in {collection} than caxflow needs: {', '.join(actions)}"
        yield Finding("runs database", DOUBTFUL, said, fix)
