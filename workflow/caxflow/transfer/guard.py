"""What stands between a restricted key and the operations on files: allowed or refused, walked, and logged.

Before an operation of `caxflow.transfer.session.Session` sees a path, the folder that holds it is walked from
its root by descriptors, following no link, and held open: the operation gets a path through that descriptor,
so that what is exchanged meanwhile leads nowhere else. Messages and results have the path that was asked for.
Runs at the far end: Python 3.8, standard library only.
"""

# ruff: noqa: PTH118, PTH120 (this also runs under Python 3.8, and paths are bytes)

from __future__ import annotations

import errno
import fcntl
import inspect
import json
import os
import re
import resource
import time

from caxflow.errors import CaxflowError, DiskAway
from caxflow.files import marker
from caxflow.files.folder import PASS, Folder, is_link, joined, make_folder, names_below, naming
from caxflow.files.listing import os_error, safe_path, to_bytes, to_text
from caxflow.files.permissions import Wanted
from caxflow.legible import printable
from caxflow.transfer.protocol import MOST_VALUES
from caxflow.transfer.session import (
    OPERATIONS,
    Session,
    absent,
    check_marker,
    inner_folders,
    perform,
)

# No path of a dataset has a "." in it, so that what begins like this is no name of a file.
_HELD = re.compile(r"/proc/self/fd/\./(\d+)(/\.(?=$|[^\w.+@%=~-]))?")
# The descriptors of folders: an operation that comes again has the same ones, for some remember paths.
_MOST = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 1024)
_FIRST, _OTHER, _STAYS = _MOST // 4, _MOST // 3, _MOST // 2
_TOKEN = re.compile(r"[0-9A-Za-z_-]{1,64}")
# How many folders deep copies of a kind lie below their root.
_DEPTH = {"raw": 1}
_DEEPER = 2
_MOST_FILES = MOST_VALUES // 5  # in an answer: each has a name, a size and what tells it from others
_RELEASE = 20.0  # seconds that the other connections of a copy have to let it go


class Guard:
    """Performs what one connection asks for, as far as its key may do that.

    Parameters
    ----------
    report : callable
        As of a `Session`.
    restriction : Restriction
    log : callable
        Called with the name of an operation, a path, bytes, and how it ended.
    whose : str
        What tells the unfinished copies of this key from those of others.
    """

    def __init__(self, report, restriction, log, whose: str):
        def counted(count: int) -> None:
            self._bytes += count
            report(count)

        self.report = report
        self._session = Session(counted, whose=whose if restriction.no_delete else None)
        self._restriction, self._log = restriction, log
        self._names = {}  # path of each folder that is or was held, by its descriptor
        self._growing = None  # what holds the folder of the copy that is being made
        self._parent = self._data = ""  # where that is, and the folder that is written to
        self._began = False
        self._streams = {}  # what is being read or written: its path, and bytes so far
        self._bytes = 0

    # What the helper asks for

    def perform(self, operation: str, arguments: dict, *, receiving: bool):
        """Perform an operation, or raise a CaxflowError that says why not; either is logged."""
        self._bytes, ended = 0, "failed"
        about = _about(arguments)
        try:
            self._check(operation, arguments, about, receiving)
            with _Held(self._restriction, self._names, _FIRST) as held:
                do = getattr(self, f"_on_{operation}", None)
                if do is None:
                    result = self._call(operation, **_walked(held, operation, arguments))
                else:
                    result = do(held, **arguments)
            ended = "allowed"
            return result
        except CaxflowError as error:
            known = self.explained(error)
            ended = f"refused: {known.what}"
            raise known from None
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.ECONNRESET):
                raise
            known = self.explained(os_error(error, about))
            ended = f"failed: {known.what}"
            raise known from None
        except _ODD as error:
            ended = f"failed: {error!r:.200}"
            raise CaxflowError(f"operation {operation!r:.40} failed: {error!r:.200}", _STRANGE) from None
        finally:
            if operation != "ping":
                self._log(operation, about, self._bytes, ended)

    def reading(self, root: str):
        """Return the folder whose files are asked for."""

        def folder() -> Folder:
            with _Held(self._restriction, self._names, _OTHER) as held:
                return Folder(held.folder(root))

        return self._begin_stream("send", root, folder)

    def writing(self, data: str):
        """Return the folder to which files are written: that of the copy which was begun."""

        def folder() -> Folder:
            if not self._restriction.allows("begin"):
                raise self._restriction.refusal(f"receive {data!r:.200}")
            if self._session.part is None or data != self._data:
                raise CaxflowError(f"{data!r:.200}: no copy was begun there", _STRANGE)
            return self._session.part.folder()

        return self._begin_stream("receive", data, folder)

    def _begin_stream(self, name: str, path, folder):
        self._end(name)
        try:
            opened = folder()
        except (CaxflowError, OSError) as error:
            known = self.explained(error if isinstance(error, CaxflowError) else os_error(error, path))
            self._log(name, path, 0, f"refused: {known.what}")
            raise known from None
        opened.root = path  # for messages: it is open
        self._streams[name] = [path, 0]
        self._log(name, path, 0, "allowed, begins")
        return opened

    def count(self, name: str, count: int) -> None:
        """Take note of bytes of a stream, ``send`` or ``receive``."""
        if name in self._streams:
            self._streams[name][1] += count

    def finished(self) -> None:
        """Take note that all was received: who began the copy publishes it, others have done their part."""
        self._end("receive")
        if self._session.part is not None and not self._began:
            self._session.part.close()
            self._session.part = None

    def close(self) -> None:
        """Log what ends with the connection."""
        for name in list(self._streams):
            self._end(name)

    def _end(self, name: str) -> None:
        if name in self._streams:
            path, count = self._streams.pop(name)
            self._log(name, path, count, "allowed, ended")

    def explained(self, error: CaxflowError) -> CaxflowError:
        """Return the error with paths as they were asked for."""
        return type(error)(self._shown(error.what), self._shown(error.mend))

    def _shown(self, text: str) -> str:
        return _HELD.sub(lambda found: self._names.get(int(found[1]), found[0]), text)

    # Whether it may

    def _check(self, operation, arguments, about: str, receiving: bool) -> None:
        try:
            if not isinstance(operation, str) or operation not in OPERATIONS:
                raise TypeError
            inspect.signature(getattr(self._session, operation)).bind(**arguments)
        except TypeError:
            raise CaxflowError(
                f"operation {operation!r:.40}, as it was asked for, is not known there by caxflow serve "
                f"{self._restriction.version}",
                "use the same version of caxflow at both sites: its manager writes caxflow serve anew",
            ) from None
        self._restriction.check(operation, about, applies=bool(arguments.get("apply")))
        if receiving and operation in ("begin", "join", "publish", "let_go"):
            raise CaxflowError(f"{operation}: data are still to come", _STRANGE)
        for name in ("files", "directories"):
            for each in arguments.get(name, ()):
                safe_path(each[0] if isinstance(each, list) else each)

    def _call(self, operation: str, **arguments):
        return perform(self._session, operation, arguments)

    # Operations of which something is not as for others

    def _on_scan(self, held, path: str) -> dict:
        found = self._call("scan", path=held.entry(path))
        found["root"] = os.path.dirname(path.rstrip("/")) if found["single"] else path
        return found

    def _on_scan_again(self, held, path: str):
        found = self._call("scan_again", path=held.entry(path))
        if found is not None:
            found["root"] = os.path.dirname(path.rstrip("/")) if found["single"] else path
        return found

    def _on_kind(self, held, path: str):
        try:
            return self._call("kind", path=held.entry(path))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _on_free_space(self, held, path: str):
        return self._call("free_space", path=held.deepest(path))

    def _on_look(self, held, paths, opened: bool = False) -> list:
        found, files = [], 0
        for path in paths:
            found.append(self._look_at(path, opened))
            files += len(found[-1]["files"])
            if files > _MOST_FILES:
                raise CaxflowError("look: more files than one answer holds", "ask for less at a time")
        return found

    def _look_at(self, path: str, opened: bool) -> dict:
        with _Held(self._restriction, self._names, _FIRST) as held:
            try:
                (found,) = self._call("look", paths=[held.entry(path)], opened=opened)
            except (FileNotFoundError, NotADirectoryError):
                return {"kind": None, "files": {}, "error": "", "identity": [], "changed": None}
            return dict(found, error=self._shown(found["error"]))

    def _on_census(self, held, root: str, depth: int) -> list:
        found = self._call("census", root=held.folder(root), depth=depth)
        return [[*item[:-1], self._shown(item[-1])] for item in found]

    def _on_permissions(self, held, path: str, wanted, apply: bool) -> list:
        if apply and (Wanted(*wanted).files or 0) & 0o6000:
            what = f"permissions {printable(path)}, with which a file runs as the account that owns it"
            raise self._restriction.refusal(what)
        found = self._call("permissions", path=held.entry(path), wanted=wanted, apply=apply)
        return list(map(self._shown, found))

    def _on_root(self, held, root: str, folder: str, site: str = "") -> dict:
        try:
            at = held.folder(root)
        except (FileNotFoundError, NotADirectoryError):
            kind = self._on_kind(held, root)
            return {"kind": kind, "marker": None, "empty": False, "folder": None, "others": ""}
        try:
            inner = held.folder(folder)
        except (FileNotFoundError, NotADirectoryError):
            inner = None
        found = self._call("root", root=at, folder=inner or at, site=site)
        return found if inner else dict(found, folder=None)

    def _on_markers(self, held, root: str) -> list:
        """Those at and in a root; what is above it is not for others to know."""
        at = held.folder(root)
        folders = (at, *inner_folders(at))
        texts = [(folder, marker.read(folder, roots=(at,))) for folder in folders]
        return [[self._below(folder, at, root), text] for folder, text in texts if text is not None]

    def _on_mark(self, held, root: str, text: str) -> bool:
        if not isinstance(text, str) or len(text) > marker.LARGEST:
            raise CaxflowError("a marker longer than any that is meant", _STRANGE)
        return self._call("mark", root=held.folder(root), text=text)

    def _on_rename(self, held, **arguments) -> bool:
        for path, root in (("old", "root"), ("new", "new_root")):
            arguments[root], arguments[path] = held.below(arguments[path], arguments[root])
        return self._call("rename", **arguments)

    def _on_link(self, held, path: str, target: str, root: str) -> bool:
        """Only from a folder to what is in it: then it leads out of no root, wherever it is moved to."""
        if {"", ".", ".."} & set(target.split("/")):
            raise self._restriction.outside(os.path.join(os.path.dirname(path), target))
        at, inner = held.below(path, root)
        return self._call("link", path=inner, target=target, root=at)

    def _on_leftovers(self, held, parent: str, older_than: float, only=None) -> list:
        at = held.folder(parent)
        if self._restriction.no_delete:
            root, names = self._restriction.split(parent)
            self._check_place("leftovers", parent, root, [*names, b"copy"])
        found = self._call("leftovers", parent=at, older_than=older_than, only=only)
        return [self._below(path, at, parent) for path in found]

    def _on_begin(self, held, destination: str, token: str, wait: float, **more) -> dict:
        root, site = more["root"], more.get("site")
        at = held.folder(root) if root else None
        if at:
            check_marker(at, site)
        growing = self._grow(destination, token, make=True)
        more["root"] = growing.folder(root) if root else None
        arguments = dict(more, destination=growing.entry(destination), token=token, wait=wait)
        found = self._call("begin", **arguments)
        if found["exists"]:
            return found
        self._began = True
        parent = growing.folder(self._parent)
        self._data = self._below(found["data"], parent, self._parent)
        return dict(found, data=self._data)

    def _on_join(self, held, destination: str, token: str) -> None:
        growing = self._grow(destination, token)
        self._call("join", destination=growing.entry(destination), token=token)
        parent = growing.folder(self._parent)
        self._data = self._below(to_text(self._session.part.data), parent, self._parent)
        self._began = False

    def _grow(self, destination: str, token: str, make: bool = False):
        """Hold the folder that holds the copy which is to be made there."""
        if self._session.part is not None:
            raise CaxflowError(f"{printable(destination)}: another copy was begun and not ended", _STRANGE)
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise CaxflowError("an attempt has a name that none has", _STRANGE)
        root, names = self._restriction.split(destination)
        if not names:
            raise self._restriction.outside(destination)
        if self._growing is not None:
            self._growing.close()
        self._growing = growing = _Held(self._restriction, self._names, _STAYS)
        if self._restriction.no_delete:
            self._check_place("begin", destination, root, names)
        self._parent = joined(root, names[:-1])
        try:
            growing.folder(self._parent)
        except FileNotFoundError:
            above = os.path.dirname(self._parent)
            try:
                if not make or not names[:-1]:
                    raise
                growing.make(self._parent)
            except FileNotFoundError:
                raise absent(above if names[:-1] else self._parent) from None
        return growing

    def _check_place(self, operation: str, about: str, root: str, names: list) -> None:
        """Raise a CaxflowError unless a copy has its place there, and not in one that is published."""
        hidden = any(name.startswith(b".") for name in names)
        with _Held(self._restriction, self._names, _OTHER) as held:
            for depth in range(len(names)):
                try:
                    text = marker.read(held.folder(joined(root, names[:depth])))
                except (FileNotFoundError, NotADirectoryError):
                    break
                if text is not None:
                    kind = marker.parse(text, joined(root, names[:depth]))["kind"]
                    if hidden or len(names) - depth != _DEPTH.get(kind, _DEEPER):
                        what = f"{operation} {printable(about)}, where no copy of {kind} data has its place"
                        raise self._restriction.refusal(what)
                    return
        raise DiskAway(
            f"{printable(root)} has no {marker.NAME}, by which it is known where copies have their place",
            "at that site: caxflow doctor --mark-roots",
        )

    def _on_publish(self, held, files, directories, single: bool) -> list:
        part = self._session.part
        if part is None or not self._began:
            raise CaxflowError("publish: no copy was begun", _STRANGE)
        until = time.monotonic() + _RELEASE
        while not part.alone():
            if time.monotonic() > until:
                raise CaxflowError(
                    f"{printable(self._data)}: another connection still writes there", "start again"
                )
            self._session.report(0)
            time.sleep(0.05)
        found = self._call("publish", files=files, directories=directories, single=single)
        self._growing.close()
        return list(map(self._shown, found))

    @staticmethod
    def _below(path: str, held: str, shown: str) -> str:
        """Return a path below a folder that is held as it is asked for."""
        return shown.rstrip("/") + path[len(held) :] if path.startswith(held) else shown


_STRANGE = "the other end does not behave: run the same version of caxflow"
# What comes of arguments that are of no use.
_ODD = (TypeError, ValueError, LookupError, AttributeError, OverflowError, RecursionError)
# What of the arguments is a folder, or something in one; what is below a `root` is walked with that.
_FOLDERS = {"have_one_file_system": ("one", "other"), "blocks": ("root",), "names": ("folder",)}
_ENTRIES = {"manifests": ("path",), "examine": ("path",), "inventory": ("path",)}
_BELOW = ("touch", "unlink", "prune", "remove_tree")


def _walked(held, operation: str, arguments: dict) -> dict:
    """Return the arguments of an operation, with paths through folders that are held."""
    found = dict(arguments)
    if operation in _BELOW:
        found["root"], found["path"] = held.below(arguments["path"], arguments["root"])
    elif operation in _FOLDERS:
        found.update((name, held.folder(arguments[name])) for name in _FOLDERS[operation])
    elif operation in _ENTRIES:
        found.update((name, held.entry(arguments[name])) for name in _ENTRIES[operation])
    elif operation not in ("ping", "let_go"):
        raise CaxflowError(f"operation {operation!r:.40} is unknown", _STRANGE)
    return found


def _about(arguments) -> str:
    """Return the path that an operation is about, for the log."""
    arguments = arguments if isinstance(arguments, dict) else {}
    for name in ("path", "destination", "old", "root", "parent", "folder", "one"):
        if isinstance(arguments.get(name), str):
            return arguments[name]
    paths = arguments.get("paths")
    return json.dumps(paths)[:2000] if isinstance(paths, list) else ""


class _Held:
    """Folders below the roots that are held open while something is done in them.

    Parameters
    ----------
    restriction : Restriction
    names : dict
        Takes the path of each by its descriptor.
    first : int
        The lowest number of their descriptors.
    """

    def __init__(self, restriction, names: dict, first: int):
        self._restriction, self._names, self._first = restriction, names, first
        self._fds = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """Let go of them."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    def folder(self, path: str) -> str:
        """Return the path through a descriptor of a folder.

        Raises
        ------
        OSError
            If it, or a folder on the way, is not there, or is none.
        CaxflowError
            If it is not below the roots, or a link is on the way.
        """
        root, names = self._restriction.split(path)
        return _through(self._hold(root, tuple(names)))

    def entry(self, path: str) -> str:
        """Return the path of something through the folder that holds it; of a root, through itself."""
        root, names = self._restriction.split(path)
        if not names:
            return _through(self._hold(root, ())) + "/."
        return _through(self._hold(root, tuple(names[:-1]))) + "/" + to_text(names[-1])

    def below(self, path: str, root: str) -> tuple:
        """Return the paths of a root of the caller's, which is held, and of something below it."""
        self._restriction.split(path)
        at, names = self.folder(root), names_below(path, root)
        return at, joined(at, names)

    def deepest(self, path: str) -> str:
        """Return the path of the folder that is there of those on the way to something."""
        root, names = self._restriction.split(path)
        for depth in range(len(names), 0, -1):
            try:
                return _through(self._hold(root, tuple(names[:depth])))
            except (FileNotFoundError, NotADirectoryError):
                continue
        return _through(self._hold(root, ()))

    def make(self, path: str) -> str:
        """Make a folder in one that is there, and hold it."""
        root, names = self._restriction.split(path)
        make_folder(names[-1], self._hold(root, tuple(names[:-1])))
        return self.folder(path)

    def _hold(self, root: str, names: tuple) -> int:
        if (root, names) not in self._fds:
            fd = os.open(to_bytes(root), PASS)
            try:
                for depth, name in enumerate(names, 1):
                    fd, last = self._enter(name, fd, joined(root, names[:depth])), fd
                    os.close(last)
                number = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, self._first)
            finally:
                os.close(fd)
            self._fds[root, names], self._names[number] = number, joined(root, names)
        return self._fds[root, names]

    def _enter(self, name: bytes, above: int, path: str) -> int:
        with naming(path):
            try:
                return os.open(name, PASS | os.O_NOFOLLOW, dir_fd=above)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR) and is_link(name, above):
                    raise self._restriction.outside(path, ": it is a symbolic link") from None
                raise


def _through(fd: int) -> str:
    return f"/proc/self/fd/./{fd}"
