"""The address of the runs database: its form, and whether what travels there is encrypted.

What is wrong with it is said without it: a password may be anywhere in an address that was mistyped.
"""

import re
import urllib.parse
from collections.abc import Iterator

from caxflow import network
from caxflow.errors import CaxflowError

_HOST = r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+(?:%\w+)?\]|%2[Ff][\w%.-]+)(?::(\d{1,5}))?"
_FORM = re.compile(
    rf"mongodb(?P<srv>\+srv)?://(?:[^:/?#@\s]+@)?(?P<hosts>{_HOST}(?:,{_HOST})*)"
    r"(?:/[^/?@:\s]*)?(?:\?(?P<options>[^?@\s]*))?"
)
_SECRET = re.compile(r"[^=]*(password|secret|token)|authmechanismproperties=.*token", re.IGNORECASE)
_UNCHECKED = ("tlsinsecure", "tlsallowinvalidcertificates", "tlsallowinvalidhostnames")


def check(uri: str, place: str) -> None:
    """Refuse an address that is none, or holds a password.

    Raises
    ------
    CaxflowError
        Naming the place, and nothing of the address.
    """
    account = urllib.parse.unquote(uri.partition("//")[2].rpartition("@")[0])
    found = _FORM.fullmatch(uri)
    if ":" in account or (found and any(map(_SECRET.match, _options(found)))):
        raise CaxflowError(
            f"{place}: rundb.uri contains a password",
            "take it out; MONGODB_PASSWORD or MONGODB_PASSWORD_FILE in the environment says it",
        )
    if not found or any(int(port) > 65535 for port in re.findall(r":(\d+)(?=,|$)", found["hosts"])):
        raise CaxflowError(
            f"{place}: rundb.uri is no address of a database; it may hold a password, so it is not shown",
            "write it as mongodb://user@host:27017/run?authSource=run&tls=true, without a password",
        )


def is_here(uri: str) -> bool:
    """Return whether the database is reached without leaving this machine."""
    found = _FORM.fullmatch(uri)
    hosts = [re.sub(r":\d+$", "", host) for host in found["hosts"].split(",")]
    return not found["srv"] and all(map(network.is_here, hosts))


def risks(uri: str) -> Iterator[tuple[str, str]]:
    """Yield what others on the way to the database could do, and what keeps them from it."""
    if is_here(uri):
        return
    found = _FORM.fullmatch(uri)
    options = dict(each.lower().partition("=")[::2] for each in _options(found))
    if options.get("tls", options.get("ssl", "true" if found["srv"] else "false")) != "true":
        yield (
            "is reached without TLS: others on the way can read and change what travels",
            "add tls=true to rundb.uri, and tlsCAFile=/path where its authority is the site's own",
        )
    for name in _UNCHECKED:
        if options.get(name) == "true":
            yield f"may be any server, since {name} is set", "take it out of rundb.uri; name tlsCAFile=/path"


def _options(found: re.Match) -> list[str]:
    return [urllib.parse.unquote(each) for each in re.split("[&;]", found["options"] or "")]
