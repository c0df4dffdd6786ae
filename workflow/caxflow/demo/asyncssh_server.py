"""The SSH server of a site on a machine without OpenSSH's: exec, SFTP and SCP for one key.

A program on its own: ``python -I asyncssh_server.py PORT HOST_KEY AUTHORIZED_KEYS DIRECTORY``. Like sshd, it
gives whoever holds the key what the user who started it may do; there is no login without a key.
"""

import asyncio
import contextlib
import os
import signal
import sys

import asyncssh

_CIPHERS = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"]


class KeysOnly(asyncssh.SSHServer):
    """Refuses passwords; forwards connections, so that the site can be a jump host."""

    def password_auth_supported(self) -> bool:
        return False

    def kbdint_auth_supported(self) -> bool:
        return False

    def connection_requested(self, *_) -> bool:
        return True


class Sftp(asyncssh.SFTPServer):
    """SFTP that ends with an exit status, without which OpenSSH's scp calls a perfect copy a failure."""

    def exit(self) -> None:
        self.channel.exit(0)


def shell_in(directory: str):
    """Return the handler that runs a command with `directory` as its home, in a process group of its own."""
    path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.defpath}"  # noqa: PTH120
    site = {"HOME": directory, "PATH": path}

    async def run(process: asyncssh.SSHServerProcess) -> None:
        if process.command is None:
            process.stderr.write(b"this server runs commands only\n")
            process.exit(1)
            return
        # What the child says comes through plain pipes: asyncssh breaks off when it has to pause a stream.
        (output, stdout), (errors, stderr) = os.pipe(), os.pipe()
        child = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            process.command,
            cwd=directory,
            env=os.environ | process.env | site,
            stdin=asyncio.subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        os.close(stdout)
        os.close(stderr)
        await process.redirect(stdin=child.stdin, stdout=output, stderr=errors)
        gone = asyncio.ensure_future(process.channel.wait_closed())
        ended = asyncio.ensure_future(child.wait())
        await asyncio.wait((gone, ended), return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            # The client went away: what it started goes too.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await ended
        elif child.returncode < 0:
            await process.stdout.drain()
            process.exit_with_signal(signal.Signals(-child.returncode).name.removeprefix("SIG"))
        else:
            await process.stdout.drain()
            process.exit(child.returncode)
        await process.wait_closed()
        await gone

    return run


async def serve(port: int, host_key: str, authorized_keys: str, directory: str) -> None:
    """Serve on `port` of the loopback address until the process is ended."""
    server = await asyncssh.listen(
        "127.0.0.1",
        port,
        server_factory=KeysOnly,
        server_host_keys=[host_key],
        authorized_client_keys=authorized_keys,
        process_factory=shell_in(directory),
        sftp_factory=Sftp,
        allow_scp=True,
        encoding=None,
        encryption_algs=_CIPHERS,
        agent_forwarding=False,
        keepalive_interval=15,
    )
    await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), *sys.argv[2:]))
