"""How a site is reached from here."""

from caxflow.config import Settings, Site
from caxflow.transfer import Place


def place(settings: Settings, site: Site) -> Place:
    """The place of a site as transfers need it; here and on shared file systems, files are just opened."""
    access = site.access
    if site.name == settings.here.name or access.method == "local":
        return Place(site=site.name, method="local")
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
        bandwidth=int(access.bandwidth * 1e6) if access.bandwidth else None,
        timeout=access.timeout,
    )
