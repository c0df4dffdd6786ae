"""The two ends of a transfer: operations on files, here or through a helper.

Every end has ``place``, ``remote`` (reached over SSH), ``helped`` (our own program works there),
``algorithms`` (digests that it can give), ``round_trip`` (seconds), ``call`` and ``close``.
"""

import time

from caxflow.errors import CaxflowError, DiskAway
from caxflow.files import digests
from caxflow.transfer.answers import largest, makes_sense
from caxflow.transfer.place import Place
from caxflow.transfer.protocol import ACK, JSON, LostError
from caxflow.transfer.session import Session, Throttle, perform
from caxflow.transfer.ssh import HelperConnection

_STRANGE = "ask the site's manager what answers in the place of python there"


def at(site: str, error: CaxflowError, other: str | None = None) -> CaxflowError:
    """The same error, saying at which site, where it does not say so, or that it came from the other one."""
    said = error.what.partition(": ")[0]
    return error if said in (site, other) else type(error)(f"{site}: {error.what}", error.mend)


class LocalEnd:
    """Files that this machine reaches itself.

    Parameters
    ----------
    place : Place
    report : callable
        Called with numbers of bytes while operations go on; may raise to stop them.
    limit : callable, optional
        Called with numbers of bytes that were read, to hold those back that follow.
    """

    remote, helped = False, True
    round_trip = 0.0

    def __init__(self, place: Place, report, limit=None):
        self.place = place
        self.algorithms = digests.available()
        tell = Throttle(report)

        def read(count: int) -> None:
            if limit and count:
                limit(count)
            tell(count)

        self._session = Session(read, place.roots)
        self.folder = self._session.folder

    def call(self, operation: str, **arguments):
        """Perform an operation of `caxflow.transfer.session.Session`."""
        try:
            return perform(self._session, operation, arguments)
        except CaxflowError as error:
            raise at(self.place.site, error) from None

    def close(self) -> None:
        """Let go of locks."""
        self.call("let_go")


class RemoteEnd:
    """Files of another machine, through a helper there.

    Attributes
    ----------
    round_trip : float
        Seconds from a question to its answer.
    size : int
        Bytes of the dataset that it is asked about, as far as they are known here: the far end's word is
        taken for no more that it has read of it.
    """

    remote, helped = True, True

    def __init__(self, connection: HelperConnection, report):
        self.place, self._report = connection.place, report
        self.connection = connection
        self.algorithms = connection.algorithms
        self.round_trip = 0.0
        self.size = self._unread = 0

    def measure(self) -> None:
        """Measure the round trip, unless the login has told it."""
        self.round_trip = self.connection.round_trip
        if not self.round_trip:
            begin = time.monotonic()
            self.call("ping")
            self.round_trip = time.monotonic() - begin

    def call(self, operation: str, **arguments):
        """Perform an operation of `caxflow.transfer.session.Session` there; one at a time."""
        self.must_allow(operation, arguments)
        self._unread = 2 * self.size  # what changes is read twice
        self.connection.stream.largest = largest(operation, arguments)
        try:
            self.connection.stream.send({"do": operation, "with": arguments})
        except LostError:
            pass  # why, is what the far end said last
        answer = self.result()
        if not makes_sense(operation, arguments, answer):
            raise CaxflowError(
                f"{self.place.site}: gives an answer to {operation!r} that makes no sense", _STRANGE
            )
        return answer

    def must_allow(self, operation: str, arguments) -> None:
        """Raise a CaxflowError if our key may not do that there, as far as is known."""
        if self.connection.restriction:
            about = next((value for value in arguments.values() if isinstance(value, str)), "")
            try:
                self.connection.restriction.check(operation, about, applies=bool(arguments.get("apply")))
            except CaxflowError as error:
                raise at(self.place.site, error) from None

    def result(self, acknowledged=None):
        """Wait for a result.

        Parameters
        ----------
        acknowledged : callable, optional
            Called with the numbers of pieces and of bytes that the far end has written meanwhile.
        """
        stream = self.connection.stream
        try:
            while True:
                kind, _, offset, length = stream.header()
                if kind == ACK and acknowledged:
                    acknowledged(offset, length)
                    continue
                if kind != JSON:
                    raise LostError(f"a frame {kind!r} that was not asked for")
                message = self.message(length)
                if "result" in message:
                    return message["result"]
        except LostError as error:
            raise self.connection.diagnosis(error) from None

    def message(self, length: int) -> dict:
        """Read a message; take note of progress, raise what the far end reports."""
        try:
            message = self.connection.stream.json(length)
        except CaxflowError as error:
            raise at(self.place.site, error) from None
        self._handle(message)
        return message

    def _handle(self, message: dict) -> None:
        if "error" in message:
            said = message["error"]
            if not (isinstance(said, list) and [*map(type, said)] == [str, str]):
                said = ["an error that it cannot name", "ask the site's manager"]
            kind = DiskAway if message.get("disk_away") is True else CaxflowError
            raise at(self.place.site, kind(*said))
        if type(count := message.get("progress")) is int:
            count = max(0, min(count, self._unread))
            self._unread -= count
            self._report(count)

    def close(self) -> None:
        """End the connection; the helper lets go of its locks."""
        self.connection.close()
