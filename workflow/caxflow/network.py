"""Addresses on the network: which stay on this machine, and how a secret may travel to the others."""

import ipaddress
import socket
import urllib.parse
import urllib.request

from caxflow.errors import CaxflowError


def is_here(host: str) -> bool:
    """Return whether what is sent to a host, or a socket's path, does not leave this machine."""
    name = host.strip("[]").lower()
    if not name or name.startswith(("/", "%2f")):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        own = name in ("localhost", socket.gethostname().lower())
        return own or name.endswith(".localhost")
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def check_web(url: str, about: str) -> None:
    """Refuse a web address to which a key or a secret address would travel readably.

    Raises
    ------
    CaxflowError
        Without the address, which may be the secret.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise CaxflowError(f"{about} is not a web address", "it begins with https://") from None
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise CaxflowError(
            f"{about} is not a web address", "it begins with https://host/, without an account"
        )
    if parts.scheme == "http" and not is_here(host):
        raise CaxflowError(
            f"{about} begins with http://: its key would be sent readably", "use its address with https://"
        )


def opener(url: str) -> urllib.request.OpenerDirector:
    """Return what asks this address, and never another one that it redirects to.

    A proxy is given the address only of what is encrypted.
    """
    proxies = [urllib.request.ProxyHandler({})] if url.startswith("http:") else []
    return urllib.request.build_opener(_NoRedirect, *proxies)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: object) -> None:
        return None
