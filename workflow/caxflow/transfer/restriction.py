"""What the key of a partner may do at a site: which operations, below which folders.

Operations are allowed by the class that `caxflow.transfer.session` has them in: what is in none is refused.
Both ends know this, the agent that a key is tied to (`caxflow.transfer.serve`) and those who call it. Runs at
the far end, too: Python 3.8, standard library only.
"""

from __future__ import annotations

from collections import namedtuple

from caxflow import legible
from caxflow.errors import CaxflowError
from caxflow.files.listing import DEEPEST, to_bytes
from caxflow.legible import printable
from caxflow.transfer.session import ADDS, CHANGES, READS

ASK = "ask the site's manager, or leave it to the site's own caxflow"


class Restriction(namedtuple("Restriction", "roots read_only no_delete version")):
    """What a key may do.

    Parameters
    ----------
    roots : tuple of str
        Absolute paths of the folders below which it may do that.
    read_only : bool
        Whether it may only list, read and hash.
    no_delete : bool
        Whether it may otherwise only add copies.
    version : str
        That of the agent.
    """

    __slots__ = ()

    def __str__(self) -> str:
        how = "read-only" if self.read_only else "no-delete" if self.no_delete else "reads and writes"
        return f"{how}, roots {', '.join(map(printable, self.roots))}"

    def allows(self, operation: str, *, applies: bool = False) -> bool:
        """Return whether an operation is one of those allowed; `applies` if it is to apply permissions."""
        if operation in READS and not applies:
            return True
        if self.read_only:
            return False
        return operation in ADDS or (not self.no_delete and operation in READS | CHANGES)

    def check(self, operation: str, about: str = "", *, applies: bool = False) -> None:
        """Raise a CaxflowError that names the restriction if it does not allow an operation."""
        if not self.allows(operation, applies=applies):
            raise self.refusal(f"{operation} {printable(about)}" if about else operation)

    def refusal(self, what: str) -> CaxflowError:
        """Return the error that says that the restriction does not allow something."""
        if self.read_only:
            why = "may only read there (caxflow serve --read-only)"
        elif self.no_delete:
            why = "may only add copies there (caxflow serve --no-delete)"
        else:
            why = "may do no more there than caxflow serve knows"
        return CaxflowError(f"{what}: the key of this account {why}", ASK)

    def outside(self, path: str, why: str = "") -> CaxflowError:
        """Return the error that says that a path does not lie below the roots."""
        shown = printable(path) if isinstance(path, str) else repr(path)
        roots = ", ".join(map(printable, self.roots))
        what = f"{legible.line(shown)} is not below what the key of this account may use{why}"
        return CaxflowError(f"{what} (caxflow serve --root: {roots})", ASK)

    def split(self, path: str) -> tuple:
        """Return the root that a path lies below, and the names that lead there from it, as bytes.

        No name is ``.``, ``..`` or empty; for a root itself there are none. Of nested roots it is the inner.
        """
        try:
            whole = to_bytes(path)
        except (UnicodeEncodeError, TypeError):
            raise self.outside(path) from None
        if not isinstance(path, str) or not whole.startswith(b"/") or b"\0" in whole:
            raise self.outside(path)
        for root in sorted(self.roots, key=len, reverse=True):
            above = to_bytes(root).rstrip(b"/") + b"/"
            if (whole.rstrip(b"/") + b"/").startswith(above):
                names = whole[len(above) :].rstrip(b"/")
                names = names.split(b"/") if names else []
                if len(names) > DEEPEST or any(name in (b"", b".", b"..") for name in names):
                    break
                return root, names
        raise self.outside(path)

    def to_json(self) -> dict:
        """Return what is said of it in a greeting."""
        return dict(self._asdict(), roots=list(self.roots))


def parsed(found) -> Restriction | None:
    """Return the restriction of a greeting; None if there is none.

    Raises
    ------
    TypeError
        If it is none.
    """
    if found is None:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("roots"), list):
        raise TypeError
    roots = tuple(legible.line(root) for root in found["roots"][:100])
    version = legible.line(found.get("version", ""), 40)
    return Restriction(roots, found.get("read_only") is True, found.get("no_delete") is True, version)
