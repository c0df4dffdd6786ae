"""SSH sites on this machine: one server, host key and directory each, and a client's configuration for them.

OpenSSH's sshd where it is installed, as root or as an ordinary user; an embedded server otherwise. Keys,
known_hosts and ssh_config are made in the lab's own directory: nothing of ``~/.ssh`` or ``/etc/ssh`` is read
or changed.
"""

import os
import pwd
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from caxflow.demo.server import Server, reserve_port
from caxflow.errors import CaxflowError

HOST = "127.0.0.1"

_EMBEDDED = Path(__file__).with_name("asyncssh_server.py")


def user() -> str:
    """Name of the user that the sites let in: the one who runs this process."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid{os.getuid()}"


def openssh() -> str | None:
    """Path of OpenSSH's server if it can serve this user, else None.

    It cannot for a user without an entry in the password file, nor, asked by root, for a locked account.
    """
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return None
    shadow = Path("/etc/shadow")
    if os.access(shadow, os.R_OK):
        entries = (line.split(":") for line in shadow.read_text(errors="replace").splitlines())
        if any(entry[0] == user() and entry[1].startswith("!") for entry in entries):
            return None
    return program


def python_first(path: str) -> str:
    """Return a PATH on which ``python3`` is the one that runs this process."""
    return f"{Path(sys.executable).parent}{os.pathsep}{path}"


def make_key(path: Path, comment: str) -> str:
    """Make an Ed25519 key pair at `path` and ``path.pub``, unless it is there; the public line.

    The private file is in OpenSSH's format, without a passphrase, mode 0600.
    """
    public = path.with_name(path.name + ".pub")
    if not (path.exists() and public.exists()):
        from cryptography.hazmat.primitives import serialization as form
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        key = Ed25519PrivateKey.generate()
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(
            key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())
        )
        line = key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
        public.write_text(f"{line.decode()} {comment}\n")
    return public.read_text().strip()


class SshSite:
    """One site: a directory behind an SSH server.

    Attributes
    ----------
    name : str
    root : Path
        The site's own directory; its data roots belong below it.
    host, port : str, int
        Where the server listens. The port stays the same when the site is stopped and started again.
    """

    def __init__(self, name: str, lab: Path, *, embedded: bool):
        self.name = name
        self.root = lab / name
        self.host = HOST
        self.port = 0
        self._ssh = lab / "ssh"
        self._embedded = embedded
        self.server: Server | None = None
        self.root.mkdir(parents=True, exist_ok=True)
        self.host_key = make_key(self._ssh / f"{name}.host_key", name)

    def begin(self) -> None:
        """Start the server, on the port it had before if it had one; `wait` tells when it serves."""
        self.port = self.port or reserve_port(self, host=HOST)
        command = self._embedded_command() if self._embedded else self._sshd_command()
        self.server = Server(f"the SSH server of {self.name}", command, self._ssh / f"{self.name}.log")
        self.server.start()

    def wait(self) -> None:
        """Wait until the server answers."""
        self.server.wait(self._answers)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self.begin()
        self.wait()

    def stop(self) -> None:
        """End the server and every session with all that it runs."""
        if self.server is not None:
            self.server.stop()

    def kill(self) -> None:
        """End the server as a crash would, sessions included."""
        self.server.kill()

    def _answers(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), timeout=5) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def _embedded_command(self) -> list[str | Path]:
        if find_spec("asyncssh") is None:
            raise CaxflowError(
                "no SSH server for the sites: OpenSSH's sshd cannot be used and asyncssh is not installed",
                "run `apt-get install openssh-server` or `pip install 'caxflow[demo]'`",
            )
        key = self._ssh / f"{self.name}.host_key"
        public = self._ssh / "id_ed25519.pub"
        return [sys.executable, "-I", _EMBEDDED, str(self.port), key, public, self.root]

    def _sshd_command(self) -> list[str | Path]:
        if os.getuid() == 0:
            # Where sshd, started by root, locks up the part that talks to strangers.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        settings = {
            "ListenAddress": f"{self.host}:{self.port}",
            "HostKey": _quoted(self._ssh / f"{self.name}.host_key"),
            "AuthorizedKeysFile": _quoted(self._ssh / "id_ed25519.pub", tokens=True),
            # It would refuse keys below any directory that a group may write to, as /tmp is and a clone made
            # under umask 002. The directory of the keys is 0700, which is what matters.
            "StrictModes": "no",
            "AuthenticationMethods": "publickey",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "AllowUsers": user(),
            "AllowAgentForwarding": "no",
            # A site can be a jump host.
            "AllowTcpForwarding": "local",
            "PermitUserRC": "no",
            "PermitUserEnvironment": "no",
            "PidFile": "none",
            "PrintMotd": "no",
            "PrintLastLog": "no",
            "UseDNS": "no",
            "UsePAM": "no",
            "X11Forwarding": "no",
            # Each site has a home of its own, without the login files of whoever tries it, and this Python.
            "SetEnv": f'"HOME={self.root}" "PATH={python_first(os.defpath)}"',
            "Subsystem": "sftp internal-sftp",
        }
        configuration = self._ssh / f"{self.name}.sshd_config"
        configuration.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
        command = [openssh(), "-D", "-e", "-f", configuration]
        # Newer servers lock out an address after a few failed logins; here all clients have the same one.
        lenient = ["-o", "PerSourcePenalties=no"]
        knows = subprocess.run([*command, "-t", *lenient], capture_output=True, check=False).returncode == 0
        return command + lenient * knows


class SshSites:
    """Sites by name; a context manager that starts and stops all their servers.

    Parameters
    ----------
    directory : Path
        The lab: ``ssh/`` holds keys, known_hosts, ssh_config and logs, ``<name>/`` is each site's own.
    names : iterable of str
        Names of the sites; in `ssh_config` they are the hosts' names.
    embedded : bool, optional
        Whether to use the embedded server; by default where OpenSSH's cannot be used.
    """

    def __init__(self, directory: Path, names: Iterable[str], *, embedded: bool | None = None):
        self.directory = Path(directory).absolute()
        ssh = self.directory / "ssh"
        ssh.mkdir(mode=0o700, parents=True, exist_ok=True)
        ssh.chmod(0o700)
        self.identity = ssh / "id_ed25519"
        self.known_hosts = ssh / "known_hosts"
        self.ssh_config = ssh / "ssh_config"
        self.user = user()
        self.embedded = openssh() is None if embedded is None else embedded
        make_key(self.identity, "caxflow-demo")
        self._sites = {name: SshSite(name, self.directory, embedded=self.embedded) for name in names}

    def __getitem__(self, name: str) -> SshSite:
        return self._sites[name]

    def __iter__(self):
        return iter(self._sites.values())

    def start(self) -> "SshSites":
        """Start every server that is not running, side by side, and write known_hosts and ssh_config."""
        starting = [site for site in self if not (site.server and site.server.running)]
        try:
            for site in starting:
                site.begin()
            for site in starting:
                site.wait()
        except BaseException:
            self.stop()
            raise
        self._write_client_files()
        return self

    def stop(self) -> None:
        """End every server and session."""
        for site in self:
            site.stop()

    def __enter__(self) -> "SshSites":
        return self.start()

    def __exit__(self, *_) -> None:
        self.stop()

    def _write_client_files(self) -> None:
        keys = {f"[{site.host}]:{site.port}": site.host_key for site in self}
        self.known_hosts.write_text("".join(f"{host} {key}\n" for host, key in keys.items()))
        hosts = "".join(
            f"Host {site.name}\n    HostName {site.host}\n    Port {site.port}\n\n" for site in self
        )
        common = {
            "User": self.user,
            "IdentityFile": _quoted(self.identity, tokens=True),
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "UserKnownHostsFile": _quoted(self.known_hosts, tokens=True),
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "UpdateHostKeys": "no",
            "BatchMode": "yes",
        }
        self.ssh_config.write_text(
            hosts + "Host *\n" + "".join(f"    {key} {value}\n" for key, value in common.items())
        )


def _quoted(path: Path, *, tokens: bool = False) -> str:
    """Write a path for OpenSSH's configuration, where blanks separate and, for some keys, % is special."""
    return '"{}"'.format(str(path).replace("%", "%%") if tokens else path)
