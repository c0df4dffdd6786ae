"""What tests need of the machine: without it they fail in CI, and are skipped with a remedy elsewhere.

As a program it lists the Debian packages that are missing here, one a line.
"""

import contextlib
import ctypes.util
import os
import shutil
import subprocess
from pathlib import Path

# Debian's package of each program.
PACKAGES = {
    "bash": "bash",
    "dash": "dash",
    "rbash": "bash",
    "tcsh": "tcsh",
    "fish": "fish",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "ssh-agent": "openssh-client",
    "scp": "openssh-client",
    "sftp": "openssh-client",
    "xxhsum": "xxhash",
    "sha256sum": "coreutils",
    "systemd-analyze": "systemd",
    "openssl": "openssl",
    "rsync": "rsync",
    "rclone": "rclone",
    "ip": "iproute2",
    "gcc": "gcc",
    "ps": "procps",
    "unshare": "util-linux",
    "bindfs": "bindfs",
    "fusermount3": "fuse3",
    "sshfs": "sshfs",
    "mount": "mount",
    "umount": "mount",
    "setpriv": "util-linux",
    "fincore": "util-linux-extra",
    "getfacl": "acl",
    "setfacl": "acl",
    "munged": "munge",
    "munge": "munge",
    "slurmctld": "slurm-wlm",
    "slurmd": "slurm-wlm",
    "sbatch": "slurm-wlm",
    "squeue": "slurm-wlm",
    "scancel": "slurm-wlm",
    "scontrol": "slurm-wlm",
    "sacct": "slurm-wlm",
    "sacctmgr": "slurm-wlm",
    "slurmdbd": "slurmdbd",
    "mariadbd": "mariadb-server",
    "mariadb": "mariadb-client",
    "mariadb-install-db": "mariadb-server",
    "chromium": "chromium",
    "faketime": "faketime",
}


def find(program: str) -> str | None:
    """Return the path of a program, those of administrators included."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def missing(what: str, remedy: str) -> None:
    """End the test: it fails in CI, and is skipped elsewhere."""
    import pytest

    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{what} -> {remedy}")


def tool(program: str) -> str:
    """Return the path of a program."""
    if (found := find(program)) is None:
        missing(f"there is no {program}", f"apt-get install {PACKAGES[program]}")
    return found


def shared(name: str) -> Path:
    """Return the path of what lies beside the clone for all versions of the project."""
    path = Path(__file__).resolve().parents[2] / "shared" / name
    if not path.exists():
        missing(f"there is no {path}", "put the project's folder `shared` beside the clone")
    return path


def root() -> None:
    """See that the tests run as root."""
    if os.geteuid() != 0:
        missing("namespaces, mounts, files of other users and Slurm need root", "run the tests as root")


def hidden_processes(*namespaces: str) -> list[str]:
    """Return the words before a command to which ``/proc`` shows no processes of others.

    As ProtectProc=invisible of a unit; and without what lets root see all.
    """
    root()
    hidden = "mount -t proc -o hidepid=2,gid=65533 proc /proc && exec setpriv --bounding-set=-sys_ptrace"
    return ["unshare", "--mount", *namespaces, "sh", "-c", f'{hidden} "$@"', "sh"]


@contextlib.contextmanager
def mounted(target: Path, *options: str):
    """Mount a file system on a path, as ``mount`` does with these options, while the block runs."""
    root()
    command = [tool("mount"), *options, str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        missing(f"nothing can be mounted: {done.stderr.strip()}", "run the tests where root may mount")
    try:
        yield target
    finally:
        # The far end of a copy may outlive the copy by a moment, and hold the file system until then.
        subprocess.run([tool("umount"), "--lazy", str(target)], check=True)


def link() -> None:
    """See that a `lab.links.Link` can be made."""
    root()
    tool("gcc")
    tool("ip")
    if not Path("/dev/net/tun").exists():
        missing("there is no /dev/net/tun", "run the tests where there is one: modprobe tun")


if __name__ == "__main__":
    packages = {package for program, package in PACKAGES.items() if find(program) is None}
    if not Path("/usr/include/stdio.h").exists():
        packages.add("libc6-dev")  # gcc comes without it where recommended packages are left out
    if ctypes.util.find_library("fuse") is None:
        packages.add("libfuse2")
    for package in sorted(packages):
        print(package)
