"""Whether a partner takes as many connections at the same time as a copy opens."""

import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from caxflow import words
from caxflow.config import Site, reach
from caxflow.monitoring.doctor.finding import DOUBTFUL, GOOD, Finding
from caxflow.monitoring.doctor.login import PATIENCE, Login, Said
from caxflow.transfer import Place, bootstrap, protocol

_SFTP = struct.pack(">IBI", 5, 1, 3)  # SSH_FXP_INIT of version 3; the answer begins with its length


def examine(site: Site, place: Place, *, restricted: bool = False) -> Iterator[Finding]:
    """Open one connection, a second beside it, then all; each stays until all are there.

    With a key that is `restricted`, each starts what copies start, and nothing else can be.
    """
    most = reach.connections(site)
    about = f"connections to {site.name}"
    opened: list[Login] = []
    refused: list[Said] = []
    with ThreadPoolExecutor(most) as pool:
        for more in (1, 1, most - 2):
            if len(opened) < most and not refused:
                for login, good in pool.map(lambda _: _open(place, restricted=restricted), range(more)):
                    if good:
                        opened.append(login)
                    else:
                        refused.append(login.end())
        list(pool.map(Login.end, opened))
    if not refused:
        yield Finding(about, GOOD, f"{words.count(most, 'connection')} at the same time can be opened")
        return
    why = next((said.failed for said in refused if said.failed), "no answer")
    said = f"{len(opened)} of {most} at the same time could be opened, and no further one: {why}"
    mend = f"set access.connections: {max(1, len(opened))} in the file of site {site.name}"
    yield Finding(about, DOUBTFUL, said, f"{mend}, or ask its manager about MaxStartups of its sshd")


def _open(place: Place, *, restricted: bool) -> tuple[Login, bool]:
    """Open a connection that stays; whether it did."""
    if place.method == "scp":
        login = Login(place, None)
        return login, login.answers(_SFTP, 4)
    if restricted:
        login = Login(place, bootstrap.command(place.python))
        return login, login.answers(bootstrap.program(PATIENCE), len(protocol.MAGIC))
    login = Login(place, "cat")
    # Start-up files may print before that: the answer is read to its end, and the rest with the last of it.
    return login, login.answers(b"caxflow\n", 1)
