"""A runs database of one's own: SecantusDB, which speaks MongoDB's wire protocol, as a separate process."""

import contextlib
import re
import shutil
import socket
import sys
from pathlib import Path

from caxflow.demo.server import Server
from caxflow.errors import CaxflowError

_LISTENING = re.compile(r"listening on (127\.0\.0\.1:\d+)")


def secantusd() -> str:
    """Path of the server program, beside this Python or on the PATH.

    Raises
    ------
    CaxflowError
        If it is not installed.
    """
    beside = Path(sys.executable).with_name("secantusd-py")
    found = str(beside) if beside.exists() else shutil.which("secantusd-py")
    if found is None:
        raise CaxflowError("SecantusDB is not installed", "run `pip install 'caxflow[demo]'`")
    return found


class DatabaseServer:
    """A single-node database on this machine; a context manager that starts and stops it.

    Parameters
    ----------
    directory : Path
        For the storage (mode 0700), which outlives the server, and its log.
    durable : bool
        Whether an acknowledged write survives a crash of the server. Slower; tests that kill nothing do
        without.
    port : int
        Where to listen; 0 takes any free port.
    auth : bool
        Whether to ask for a user name and password. Users are made on a server started without.
    """

    def __init__(self, directory: Path, *, durable: bool = True, port: int = 0, auth: bool = False):
        self.directory = Path(directory).absolute()
        self.durable = durable
        self.port = port
        self.auth = auth
        self.uri = ""
        self.server: Server | None = None

    def start(self) -> "DatabaseServer":
        """Start the server and wait until it listens; `uri` says where."""
        storage = self.directory / "storage"
        storage.mkdir(mode=0o700, parents=True, exist_ok=True)
        storage.chmod(0o700)
        # An explicit empty configuration, or the server looks for one in the home directory.
        configuration = self.directory / "empty.toml"
        configuration.touch()
        command = [secantusd(), "--config", configuration, "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--storage-path", storage, "--cache-size", "256M"]
        command += ["--sync-on-commit"] * self.durable + ["--auth"] * self.auth
        self.server = Server("the runs database", command, self.directory / "database.log")
        self.server.start()
        address = self.server.wait(lambda: _LISTENING.search(self.server.log.read_text(errors="replace")))[1]
        self.uri = f"mongodb://{address}"
        return self

    def stop(self) -> None:
        """Stop the server; what it stored stays."""
        if self.server is not None:
            self.server.stop(self._knock)

    def _knock(self) -> None:
        """Connect once: the server notices that it is to end when somebody comes, else two seconds later."""
        host, port = self.uri.removeprefix("mongodb://").split(":")
        with contextlib.suppress(OSError):
            socket.create_connection((host, int(port)), timeout=1).close()

    def kill(self) -> None:
        """End the server as a crash would."""
        self.server.kill()

    def __enter__(self) -> "DatabaseServer":
        return self.start()

    def __exit__(self, *_) -> None:
        self.stop()
