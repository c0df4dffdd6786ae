"""Links that can be delayed, limited and cut: two network namespaces and `link.c`. Needs root and gcc."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import garbage
from lab.processes import below

NEAR, FAR = "192.0.2.1", "192.0.2.2"


def _run(*command) -> None:
    subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)


class Link:
    """A context manager: the namespaces `near` and `far` with addresses NEAR and FAR, and the link.

    Parameters
    ----------
    rate : float
        Mbit/s.
    round_trip : float
        Milliseconds.
    queue : float
        Milliseconds that packets may wait before they are dropped.
    """

    def __init__(self, rate: float = 1000, round_trip: float = 0, queue: float = 200):
        tag = f"{os.getpid() % 100000}-{time.monotonic_ns() % 10000}"
        self.near, self.far = f"cxn{tag}", f"cxf{tag}"
        self._settings = (rate, round_trip / 2, queue)
        self._process = None
        self._directory = tempfile.TemporaryDirectory(prefix="link-")

    def __enter__(self) -> "Link":
        program = Path(self._directory.name) / "link"
        source = Path(__file__).with_name("link.c")
        _run("gcc", "-O2", "-Wall", "-Werror", "-pthread", "-o", program, source)
        try:
            for netns in (self.near, self.far):
                _run("ip", "netns", "add", netns)
                _run("ip", "-n", netns, "link", "set", "lo", "up")
            self._program = program
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        command = [self._program, self.near, "link0", self.far, "link0", *self._settings]
        self._process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
        if self._process.stdout.readline() != "up\n":
            raise RuntimeError("the link did not come up")
        for netns, address in ((self.near, NEAR), (self.far, FAR)):
            _run("ip", "-n", netns, "addr", "add", f"{address}/24", "dev", "link0")
            _run("ip", "-n", netns, "link", "set", "link0", "up", "mtu", "1500", "txqueuelen", "10000")

    def __exit__(self, *_) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
        for netns in (self.near, self.far):
            subprocess.run(["ip", "netns", "del", netns], capture_output=True, check=False)
        self._directory.cleanup()

    def cut(self) -> None:
        """Let packets vanish; nobody is told."""
        self._process.send_signal(signal.SIGSTOP)

    def mend(self) -> None:
        """Carry packets again."""
        self._process.send_signal(signal.SIGCONT)

    def inside(self, netns: str) -> list[str]:
        """What to put before a command so that it runs in a namespace."""
        return ["ip", "netns", "exec", netns]


class FarSite:
    """An sshd in a link's far namespace, and an ssh_config that reaches it from the near one.

    Takes keys and configuration from a stopped or running site of `caxflow.demo.sshd.SshSites`.
    """

    def __init__(self, link: Link, sites, name: str, directory: Path, port: int = 2222):
        self._link = link
        self.host, self.port = FAR, port
        self.known_hosts = directory / f"{name}.known_hosts"
        self.ssh_config = directory / f"{name}.ssh_config"
        self._log = (directory / f"{name}.log").open("w")
        self.server = None
        key = " ".join(sites[name].host_key.split()[:2])
        self.known_hosts.write_text(f"[{FAR}]:{port} {key}\n")
        lines = (
            f"Host {name}", f"HostName {FAR}", f"Port {port}", f"User {sites.user}",
            f"IdentityFile {sites.identity}", "IdentitiesOnly yes", "IdentityAgent none",
            f"UserKnownHostsFile {self.known_hosts}", "GlobalKnownHostsFile /dev/null", "UpdateHostKeys no",
        )  # fmt: skip
        self.ssh_config.write_text("\n".join(lines) + "\n")
        self._configuration = directory / f"{name}.sshd_config"
        text = (sites.directory / "ssh" / f"{name}.sshd_config").read_text().splitlines()
        text = [line for line in text if not line.startswith(("ListenAddress", "MaxStartups"))]
        self._configuration.write_text(
            "\n".join([f"ListenAddress {FAR}:{port}", "MaxStartups 100", *text]) + "\n"
        )

    def __enter__(self) -> "FarSite":
        self._start()
        return self

    def _start(self) -> None:
        sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        command = [*self._link.inside(self._link.far), sshd, "-D", "-e", "-f", str(self._configuration)]
        self.server = subprocess.Popen(command, stderr=self._log, start_new_session=True)
        for _ in range(600):
            probe = [*self._link.inside(self._link.far), "bash", "-c", f"exec 3<>/dev/tcp/{FAR}/{self.port}"]
            if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
                return
            time.sleep(0.05)
        self.__exit__()
        raise RuntimeError("sshd in the far namespace does not answer")

    def restart(self) -> None:
        """End the server and every session as a crash would, and start it again."""
        for pid in [*below(self.server.pid), self.server.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.server.wait()
        self._start()
        # It lives on after the test that restarted it.
        garbage.SERVICES.add(self.server.pid)

    def __exit__(self, *_) -> None:
        if self.server is not None:
            self.server.kill()
            self.server.wait()
        self._log.close()
