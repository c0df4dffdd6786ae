"""A site whose sshd is set up as some people's are: other login shells, start-up files, certificates."""

import shutil
from pathlib import Path

from caxflow.demo.sshd import SshSite
from caxflow.transfer import Place


class OddSite(SshSite):
    """An sshd with further settings, beside the sites of a lab whose keys it uses; a context manager.

    Parameters
    ----------
    lab : caxflow.demo.sshd.SshSites
    name : str
    settings : str
        OpenSSH's settings by name; they win over the lab's.
    """

    def __init__(self, lab, name: str, **settings: str):
        super().__init__(name, lab.directory, embedded=False)
        self._lab, self._settings = lab, settings
        self.ssh_config = lab.directory / "ssh" / f"{name}.ssh_config"
        self.known_hosts = lab.directory / "ssh" / f"{name}.known_hosts"

    def _sshd_command(self) -> list[str | Path]:
        command = super()._sshd_command()
        file = self._ssh / f"{self.name}.sshd_config"
        kept = [line for line in file.read_text().splitlines() if line.split()[0] not in self._settings]
        file.write_text(
            "\n".join([*(f"{key} {value}" for key, value in self._settings.items()), *kept]) + "\n"
        )
        return command

    def __enter__(self) -> "OddSite":
        self.start()
        self.known_hosts.write_text(f"[{self.host}]:{self.port} {self.host_key}\n")
        self.configure()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def configure(self, *, before: str = "", **settings: str) -> None:
        """Write the client's configuration; `before` is text that comes first."""
        known = {
            "HostName": self.host,
            "Port": str(self.port),
            "User": self._lab.user,
            "IdentityFile": str(self._lab.identity),
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "UserKnownHostsFile": str(self.known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
        } | settings
        lines = [f"    {key} {value}" for key, value in known.items() if value]
        self.ssh_config.write_text("\n".join([before, f"Host {self.name}", *lines]) + "\n")

    def place(self, method: str = "stream", **options) -> Place:
        """The site as a transfer knows it."""
        options = {"ssh_config": str(self.ssh_config)} | options
        return Place(self.name, method, host=self.name, **options)


def sftp_server() -> str:
    """Path of the SFTP server that sshd starts through a login shell."""
    folders = "/usr/lib/openssh:/usr/libexec/openssh:/usr/lib/ssh:/usr/libexec"
    found = shutil.which("sftp-server", path=folders)
    assert found, "sftp-server is not installed"
    return found


def with_shell(shell: str) -> dict[str, str]:
    """Settings of a site whose accounts have this login shell: sshd has it run each command, with -c."""
    return {
        "ForceCommand": f'exec {shell} -c "$SSH_ORIGINAL_COMMAND"',
        "Subsystem": f"sftp {sftp_server()}",
    }
