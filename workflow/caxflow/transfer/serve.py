"""``caxflow serve``: the one program that the key of a partner starts, instead of a shell.

The caller sends a program, as to any far end; it is dropped, and this one answers in its place, as far as
the key may. Runs at the far end: Python 3.8, standard library only; `caxflow.transfer.singlefile` makes one
file of it and all that it needs.
"""

# ruff: noqa: PTH111, PTH117, PTH123 (this also runs under Python 3.8)

from __future__ import annotations

import argparse
import errno
import functools
import os
import select
import sys
import time

from caxflow import __version__
from caxflow.errors import CaxflowError
from caxflow.transfer import helper
from caxflow.transfer.guard import Guard
from caxflow.transfer.restriction import Restriction

BEGINS = 'caxflow "+"begins'  # part of the command line by which `caxflow.transfer.bootstrap` starts a helper
_PATIENCE = 300.0  # seconds of silence after which a caller counts as dead that has not said how long
_LONGEST_WAIT = 60.0  # seconds for the program that is dropped
_LARGEST_PROGRAM = 16 << 20
_NAME = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@._+/=:-"

DESCRIPTION = "Answers the caxflow of a partner over SSH, in the place of a shell: a forced command."
EPILOG = """\
In authorized_keys of the account that has the data, one line for each partner's key:

  restrict,command="caxflow serve --root /data/raw --read-only" ssh-ed25519 AAAA... midway

With that key the partner's caxflow (access.method: stream) works below the roots and does nothing else; the
key opens no shell, no scp, no sftp. Without --read-only and --no-delete it may do there what its workflow
does, removing included. --no-delete lets it add whole copies where none is, below roots that have their
marker (caxflow doctor --mark-roots); what is published is not changed. Paths are walked from the roots, and
links are not followed; a root itself may be one.

Each operation is one line of the log: time, name of the key or what SSH tells of it, address, operation,
path, bytes, and whether it was allowed. Where a line cannot be written to FILE the connection ends.

--write FILE makes one file of this that needs Python 3.8 and nothing installed, and takes the same options.

exit code: 0 served; 1 refused, or not possible; 2 the command line is wrong

examples:
  caxflow serve --root /data/raw --read-only --name midway
  caxflow serve --root /data/raw --root /data/processed --no-delete --log /var/log/caxflow-serve.log
  caxflow serve --write caxflow-serve
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that both the command and the single file take."""
    add = parser.add_argument
    add("--root", metavar="DIR", action="append", default=[], help="a folder that the key is for; or several")
    add("--read-only", action="store_true", help="list, read and hash only")
    add("--no-delete", action="store_true", help="also add copies; change and remove none")
    add("--log", metavar="FILE", default="syslog", help="a file, or syslog, which is the default")
    add("--name", metavar="NAME", default="", help="what the log calls the key")


def main(words=None) -> int:
    """Run the single file."""
    parser = argparse.ArgumentParser(
        prog=os.path.split(sys.argv[0])[1],
        description=DESCRIPTION,
        epilog=EPILOG.partition("--write FILE")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"caxflow serve {__version__}")
    add_options(parser)
    return run(parser.parse_args(words))


def run(arguments) -> int:
    """Serve one connection; the exit code where that did not begin."""
    try:
        restriction = _restriction(arguments)
        log = _log(arguments.log, restriction)
        who = _who(arguments.name)

        def note(*about) -> None:
            log(f"{who} {_line(*about)}")

        try:
            _take_the_place(restriction)
        except CaxflowError as error:
            note("start", os.environ.get("SSH_ORIGINAL_COMMAND", ""), 0, f"refused: {error.what}")
            raise
        note("start", " ".join(restriction.roots), 0, f"allowed, {restriction}")
    except CaxflowError as error:
        said = f"caxflow serve: {error}\n".encode("utf-8", "backslashreplace")
        os.write(2, said)
        if "sftp" in os.environ.get("SSH_ORIGINAL_COMMAND", ""):  # of which sshd passes nothing else on
            os.write(1, said)
        return 1
    make = functools.partial(Guard, restriction=restriction, log=note, whose=who.partition(" ")[0])
    helper.main(_PATIENCE, make_desk=make, more={"serve": restriction.to_json()})
    return 0


def _restriction(arguments) -> Restriction:
    if not arguments.root:
        raise CaxflowError("no --root says what the key is for", "add --root DIR")
    for root in arguments.root:
        if not os.path.isabs(root) or os.path.normpath(root) != (root.rstrip("/") or "/"):
            raise CaxflowError(f"--root {root} is not written plainly", "give an absolute path")
    roots = tuple(root.rstrip("/") or "/" for root in arguments.root)
    _check_apart("~/.ssh, which has the keys of this account,", os.path.expanduser("~/.ssh"), roots)
    for program in () if arguments.read_only else (sys.argv[0], __file__):
        _check_apart(f"the program {program}, which this key runs,", program, roots)
    return Restriction(roots, arguments.read_only, arguments.no_delete, __version__)


def _check_apart(what: str, path: str, roots) -> None:
    """Raise a CaxflowError if a file of the site's own is below the roots."""
    real = os.path.realpath(path)
    for root in roots:
        if (real + "/").startswith(os.path.realpath(root).rstrip("/") + "/"):
            raise CaxflowError(f"{what} is below --root {root}, where callers are", "move one of the two")


def _take_the_place(restriction: Restriction) -> None:
    """Take the place of the program that the caller sends, which is dropped.

    Raises
    ------
    CaxflowError
        If the caller wants something else.
    """
    wanted = os.environ.get("SSH_ORIGINAL_COMMAND")
    kind = f"this key is for caxflow only ({restriction})"
    mend = "for copies: caxflow, with access.method stream for this site"
    if wanted is None and ("SSH_CONNECTION" in os.environ or os.isatty(0)):
        raise CaxflowError(f"{kind} and opens no login", mend)
    if wanted is not None and BEGINS not in wanted:
        raise CaxflowError(f"{kind} and does not start {wanted!r:.80}", mend)
    os.write(2, b"caxflow begins\n")
    try:
        size = int(_read(8), 16)
    except ValueError:
        size = -1
    if not 0 <= size <= _LARGEST_PROGRAM:
        raise CaxflowError(f"{kind}, and what came is none", "run the same version of caxflow")
    while size:
        size -= len(_read(min(size, 1 << 16)))


def _read(size: int) -> bytes:
    """Read so many bytes, and none that follow."""
    found = b""
    until = time.monotonic() + _LONGEST_WAIT
    while len(found) < size:
        if not select.select([0], [], [], max(0, until - time.monotonic()))[0]:
            raise CaxflowError("the caller says nothing", "start again")
        more = os.read(0, size - len(found))
        if not more:
            raise CaxflowError("the caller ended before it began", "start again")
        found += more
    return found


# The log


def _who(name: str) -> str:
    """Return what the log calls the key, and the address that it comes from."""
    told = name or _exposed() or "a-key"
    told = "".join(each if each in _NAME else "_" for each in told)[:100]
    return f"{told} {os.environ.get('SSH_CONNECTION', '').partition(' ')[0] or '-'}"


def _exposed() -> str:
    """Return the key that sshd says the caller has; empty without its ExposeAuthInfo."""
    try:
        with open(os.environ["SSH_USER_AUTH"], encoding="ascii", errors="replace") as said:
            words = said.readline().split()
    except (KeyError, OSError):
        return ""
    if words[:1] != ["publickey"] or len(words) < 3:
        return ""
    import base64
    import hashlib

    try:
        digest = hashlib.sha256(base64.b64decode(words[2])).digest()
    except ValueError:
        return ""
    return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")


def _log(name: str, restriction: Restriction):
    """Return what takes the lines of the log."""
    if name == "syslog":
        import syslog

        syslog.openlog("caxflow-serve", syslog.LOG_PID, syslog.LOG_AUTH)
        return lambda line: syslog.syslog(syslog.LOG_INFO, line)
    _check_apart(f"the log {name}", name, restriction.roots)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

    def write(line: str) -> None:
        text = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {line}\n".encode()
        try:
            fd = os.open(os.fsencode(name), flags, 0o600)  # each time, as logs are rotated
            try:
                if os.write(fd, text) < len(text):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(fd)
        except OSError as error:
            raise CaxflowError(f"the log {name}: {error.strerror}", "ask the site's manager") from None

    return write


def _line(operation, path: str, count: int, ended: str) -> str:
    """Return what is said of an operation; whatever is in names, it is one line."""
    shown = [f"{operation}"[:40], f"{path}"[:4100] or "-", f"{count}", f"{ended}"[:1000]]
    return " ".join(map(_plain, shown))


def _plain(text: str) -> str:
    return "".join(each if " " <= each <= "~" and each != "\\" else repr(each)[1:-1] for each in text)
