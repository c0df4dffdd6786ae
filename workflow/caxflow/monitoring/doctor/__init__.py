"""Checks what a site needs before its first run; each failure comes with the command that mends it.

What can be tried is tried: files are written and removed again, bytes travel, the database is written to, the
batch system looks at the largest job. What waits for others is done at the same time.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from caxflow.config import Settings, Site
from caxflow.copies import roots
from caxflow.legible import printable
from caxflow.monitoring.doctor import database, folders, keys, outlets, partners, profiles, programs
from caxflow.monitoring.doctor.finding import BAD, DOUBTFUL, GOOD, Finding, guarded
from caxflow.monitoring.doctor.marks import mark_roots

__all__ = ["BAD", "DOUBTFUL", "GOOD", "Finding", "examine", "mark_roots"]

_AT_ONCE = 8


def examine(settings: Settings, files: Sequence[Path], only: Site | None = None) -> Iterator[Finding]:
    """Check everything, or only what concerns one partner.

    Parameters
    ----------
    files : sequence of Path
        The profiles that snakemake is given.
    only : Site, optional
        The partner.
    """
    here = settings.here
    checks = list(_here(settings, files)) if only is None or only.name == here.name else []
    others = [only] if only and only.name != here.name else _partners(settings) if only is None else []
    checks += [(f"site {site.name}", lambda site=site: partners.examine(settings, site)) for site in others]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for findings in pool.map(lambda check: guarded(*check), checks):
            yield from findings
    for said in roots.shared(settings, [here, *others]):
        mend = "give each site folders of its own, or make them one site: copies there are one copy"
        yield Finding("storage", BAD, said, mend)


def _here(settings: Settings, files: Sequence[Path]) -> Iterator[tuple[str, Callable[[], Iterator[Finding]]]]:
    """Yield what each check of this site is about, and the check."""
    yield "profile", lambda: profiles.examine(settings, files)
    yield "configuration", lambda: folders.trusted(settings, files)
    yield "work directory", lambda: folders.work_dir(settings)
    for kind in settings.here.roots:
        yield f"{kind} data here", lambda kind=kind: folders.own_root(settings, kind)
    yield "processor", lambda: programs.examine(settings)
    name = " --profile ".join(printable(profiles.as_typed(file)) for file in files) or settings.here.name
    yield "runs database", lambda: database.examine(settings, name)
    yield keys.ABOUT, lambda: keys.examine(settings)
    yield from outlets.checks(settings)


def _partners(settings: Settings) -> list[Site]:
    here = settings.here
    return [settings.sites[name] for name in dict.fromkeys((*here.pull_from, *here.push_to))]
