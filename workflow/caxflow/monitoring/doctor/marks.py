"""The markers of data roots, which say whose data a disk has."""

import contextlib
from collections.abc import Iterator

from caxflow.config import Settings, Site, reach
from caxflow.copies import roots
from caxflow.errors import CaxflowError
from caxflow.monitoring.doctor.finding import BAD, DOUBTFUL, GOOD, Finding
from caxflow.rundb import RunsDB


def mark_roots(settings: Settings, site: Site, *, replaced: bool) -> Iterator[Finding]:
    """Give the roots of a site their markers, see `caxflow.copies.roots.mark`."""
    with RunsDB(settings.rundb, dry=settings.dry) as database:
        for kind, root in site.roots.items():
            about = f"{kind} data at {site.name}"
            try:
                made = roots.mark(settings, database, site, kind, replaced=replaced)
            except CaxflowError as error:
                yield Finding(about, BAD, error.what, error.mend)
            else:
                how = "is marked already" if not made else "would be marked" if settings.dry else "is marked"
                yield Finding(about, GOOD, f"{root} {how} as that of site {site.name}")


def missing(settings: Settings, site: Site, kind: str, about: str, *, written: bool) -> list[Finding]:
    """Return what is wrong with a root's marker; nothing if it is there, or comes with the first copy."""
    try:
        roots.check(settings, site, kind)
        return []
    except CaxflowError as error:
        wrong = error
    if roots.identity(reach.place(settings, site), site.roots[kind]) is None:
        with contextlib.suppress(CaxflowError), RunsDB(settings.rundb, dry=True) as database:
            if roots.is_new(settings, database, site, kind):
                return []
        if not written:
            said = f"{wrong.what}, or it was not marked yet; reading needs no marker"
            return [Finding(about, DOUBTFUL, said, wrong.mend)]
    return [Finding(about, BAD, wrong.what, wrong.mend)]
