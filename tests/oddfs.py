"""A file system, by FUSE, that shows a folder and lacks what it is told to.

As a program: ``oddfs.py FOLDER MOUNTPOINT FAULT…``. A fault is ``CALL=ERRNO``, as ``fsyncdir=EINVAL``, with
which every such call fails; ``write=EDQUOT:300000``, where it goes beyond so many bytes; ``slow=3``, with
which a sync takes so many seconds; or a word of `ODDITIES`.
Renaming that never replaces is unknown to it, as libfuse 2 does not pass that on, and a file that is removed
while it is open is only renamed, to ``.fuse_hidden…``.
"""

# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH115, PTH208, PTH211 (as the calls of the system are)

import contextlib
import errno
import os
import subprocess
import sys
import time

import needs

ODDITIES = {
    "seconds": "times are whole seconds",
    "even": "times are even seconds",
    "caseless": "capitals make no other name",
    "noblocks": "files take no blocks",
    "untold": "no free space is told",
    "timeless": "times that are set are ignored",
    "short": "files cannot be made longer but by writing",
    "lossy": "the first sync of a file fails and zeros are on the disk, while memory has what was written",
}


@contextlib.contextmanager
def mounted(folder, *faults):
    """Mount a new folder, which is made, with faults beside itself; yield where."""
    needs.root()
    needs.tool("fusermount3")
    behind = folder.with_name(f"{folder.name}.behind")
    for each in (behind, folder):
        each.mkdir(parents=True)
    command = [sys.executable, __file__, str(behind), str(folder), *faults]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            while not folder.is_mount():
                if process.poll() is not None:
                    needs.missing(process.stderr.read(), "apt-get install libfuse2; pip install fusepy")
                time.sleep(0.01)
            yield folder
        finally:
            if folder.is_mount():
                subprocess.run([needs.tool("umount"), "--lazy", str(folder)], check=True)
            process.terminate()


def _operations(root, faults):
    from fuse import FuseOSError, Operations

    errors = dict(fault.split("=") for fault in faults if "=" in fault)
    lost = set()

    class Odd(Operations):
        use_ns = True

        def __call__(self, call, *arguments):
            if "caseless" in faults:
                arguments = [each.lower() if isinstance(each, str) else each for each in arguments]
            number, _, least = errors.get(call, "").partition(":")
            beyond = arguments[2] + len(arguments[1]) if call == "write" else arguments[1] if least else 0
            if number and beyond >= int(least or 0):
                raise FuseOSError(getattr(errno, number))
            if call == "fsync":
                time.sleep(float(errors.get("slow", 0)))
            return getattr(self, call)(*arguments)

        def getattr(self, path, fh=None):
            status = os.lstat(root + path)
            names = ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid", "st_blocks", "st_ino")
            found = {name: getattr(status, name) for name in names}
            step = 2 * 10**9 if "even" in faults else 10**9 if "seconds" in faults else 1
            for name in ("st_atime", "st_mtime", "st_ctime"):
                found[name] = getattr(status, f"{name}_ns") // step * step
            return found | ({"st_blocks": 0} if "noblocks" in faults else {})

        def access(self, path, mode):
            return 0

        def opendir(self, path):
            return 0

        def readdir(self, path, fh):
            return [".", "..", *os.listdir(root + path)]

        def mkdir(self, path, mode):
            os.mkdir(root + path, mode)

        def rmdir(self, path):
            os.rmdir(root + path)

        def unlink(self, path):
            os.unlink(root + path)

        def rename(self, old, new):
            os.rename(root + old, root + new)

        def link(self, new, old):
            os.link(root + old, root + new)

        def symlink(self, new, target):
            os.symlink(target, root + new)

        def readlink(self, path):
            return os.readlink(root + path)

        def chmod(self, path, mode):
            os.chmod(root + path, mode)

        def chown(self, path, user, group):
            os.chown(root + path, user, group)

        def utimens(self, path, times=None):
            if "timeless" not in faults:
                os.utime(root + path, ns=times, follow_symlinks=False)

        def open(self, path, flags):
            return os.open(root + path, flags)

        def create(self, path, mode):
            return os.open(root + path, os.O_RDWR | os.O_CREAT, mode)

        def read(self, path, size, offset, fh):
            return os.pread(fh, size, offset)

        def write(self, path, data, offset, fh):
            return os.pwrite(fh, data, offset)

        def truncate(self, path, size, fh=None):
            if "short" in faults and size > os.lstat(root + path).st_size:
                raise FuseOSError(errno.EPERM)
            os.truncate(root + path, size)

        def flush(self, path, fh):
            return 0

        def fsync(self, path, data_only, fh):
            status = os.fstat(fh)
            if "lossy" in faults and status.st_ino not in lost:
                lost.add(status.st_ino)
                os.truncate(root + path, 0)
                os.truncate(root + path, status.st_size)
                os.utime(root + path, ns=(status.st_atime_ns, status.st_mtime_ns))
                raise FuseOSError(errno.EIO)
            os.fsync(fh)

        def fsyncdir(self, path, data_only, fh):
            return 0

        def release(self, path, fh):
            os.close(fh)

        def statfs(self, path):
            names = ("bavail", "bfree", "blocks", "bsize", "favail", "ffree", "files", "frsize", "namemax")
            found = os.statvfs(root + path)
            return {f"f_{name}": 0 if "untold" in faults else getattr(found, f"f_{name}") for name in names}

    return Odd()


if __name__ == "__main__":
    from fuse import FUSE

    folder, at, *asked = sys.argv[1:]
    options = {"kernel_cache": True} if "lossy" in asked else {}
    FUSE(_operations(folder, asked), at, foreground=True, default_permissions=True, use_ino=True, **options)
