"""How a site is reached from here, and within which limits."""

import os
import re
from pathlib import Path

from caxflow.config import Settings, Site
from caxflow.transfer import Place
from caxflow.transfer.plan import MOST

_STATE = ".caxflow"  # as `caxflow.workdir.journal.STATE`, which is built upon this


def is_far(settings: Settings, site: Site) -> bool:
    """Whether a site is reached over SSH; here and on shared file systems, files are just opened."""
    return site.name != settings.here.name and site.access.method != "local"


def connections(site: Site) -> int:
    """Connections that a copy opens at most at a site that is far."""
    return site.access.connections or MOST


def resource(site: Site) -> str:
    """What Snakemake calls these: a resource of jobs."""
    return "connections_" + re.sub(r"\W", "_", site.name)


def ledger(work_dir: str | os.PathLike, site: Site) -> str:
    """Return the file through which what works in a folder shares the bandwidth limit of a site."""
    return str(Path(work_dir) / _STATE / f"bandwidth.{site.name}")


def place(settings: Settings, site: Site) -> Place:
    """The place of a site as transfers need it."""
    access, roots = site.access, tuple(site.roots.values())
    if site.name == settings.here.name:
        return Place(site=site.name, method="local", roots=roots)
    limits = {
        "roots": roots,
        "bandwidth": int(access.bandwidth * 1e6) or 1 if access.bandwidth else None,
        "ledger": ledger(settings.here.work_dir, site) if settings.here.work_dir else None,
    }
    if not is_far(settings, site):
        return Place(site=site.name, method="local", **limits)
    return Place(
        site=site.name,
        method=access.method,
        host=access.host,
        port=access.port,
        user=access.user,
        jump=access.jump,
        ssh_config=access.ssh_config,
        python=access.python,
        connections=access.connections,
        timeout=access.timeout,
        **limits,
    )
