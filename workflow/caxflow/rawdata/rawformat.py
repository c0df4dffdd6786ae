"""The raw format: zips of zlib-compressed events, pickled or as BSON, as pax's event builder writes them.

A run is a directory of zips named ``XENON1T-<number>-<first>-<last>-<count>.zip``; each member is stored
uncompressed under its event's number and holds zlib(pickle or BSON of one event). Sources: pax 6.11
(``FolderIO``, ``Zip``, ``datastructure``) and the data of the time.
"""

import errno
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from caxflow.errors import CaxflowError
from caxflow.files import zipdirectory
from caxflow.rawdata import safepickle

if TYPE_CHECKING:
    import numpy as np

TPC_NAME = "XENON1T"
SAMPLE_DURATION = 10  # ns, the V1724 digitizer's
ADC_MAX = 2**14 - 1
REFERENCE_BASELINE = 16000  # ADC counts; signals are negative
N_CHANNELS = {"tpc": 260, "muon_veto": 88}

TEMPORARY_ZIP = "temp.zip"
TRIGGER_ZIP = "trigger_monitor_data.zip"
SIDE_FILES = {
    "tpc": ("pax_info.json", TRIGGER_ZIP, "acquisition_monitor_data.pickles", "eventbuilder.log"),
    "muon_veto": ("pax_info.json", TRIGGER_ZIP, "eventbuilder.log"),
}

# The longest event (10 ms, every channel read out throughout) has 520 MB; what unpacks to more is no event.
_MAX_EVENT_BYTES = 2**30
# Samples have noise: they are packed to a quarter, and not to a twentieth.
_MOST_PACKED, _SMALL = 20, 1 << 20
# A member that was packed again has hardly become smaller.
_MOST_REPACKED, _SMALL_MEMBER = 4, 1 << 16

_ZIP_NAME = re.compile(TPC_NAME + r"-(\d{1,12})-(\d{9,12})-(\d{9,12})(?:-(\d{9,12}))?\.zip", re.ASCII)
_MEMBER_NAME = re.compile(r"\d{1,12}", re.ASCII)
# What a damaged directory makes zipfile raise.
_NO_ZIP = (
    *(zipfile.BadZipFile, EOFError, ValueError, NotImplementedError),
    *(OverflowError, RuntimeError, struct.error),
)
_ZIP_ERRORS = zipfile.BadZipFile | zlib.error
_MEND = (
    "it is damaged, or was not written by pax: a scrub says whether this copy is as it was registered; "
    "if so, the origin's is damaged, too"
)


@dataclass(frozen=True)
class ZipName:
    """What the name of a zip of events says.

    Parameters
    ----------
    first, last : int
        Numbers of the first and last event, both inclusive.
    number : int
        The run's number; 0 for every muon-veto run.
    count : int or None
        Number of events; None in the names of old files, which lack it.
    """

    first: int
    last: int
    number: int
    count: int | None = None

    @classmethod
    def parse(cls, name: str) -> "ZipName":
        """Read a zip's name; the inverse of ``str()``."""
        match = _ZIP_NAME.fullmatch(name)
        if match is None:
            raise CaxflowError(
                f"{name!r} is not the name of a zip of raw events",
                f"they look like {cls(0, 999, 4242, 1000)}",
            )
        number, first, last, count = (None if field is None else int(field) for field in match.groups())
        return cls(first, last, number, count)

    @property
    def order(self) -> tuple[int, int, int, int]:
        """What zips are sorted by; an old name, which lacks the count, comes before the new one."""
        return self.first, self.last, self.number, -1 if self.count is None else self.count

    def __str__(self) -> str:
        count = "" if self.count is None else f"-{self.count:09d}"
        return f"{TPC_NAME}-{self.number}-{self.first:09d}-{self.last:09d}{count}.zip"


@dataclass(slots=True)
class Pulse:
    """One stretch of digitized samples in one channel.

    Parameters
    ----------
    channel : int
    left, right : int
        First and last sample, both inclusive, counted from the event's start.
    raw_data : numpy.ndarray of int16, shape (right - left + 1,)
        ADC counts, as digitized.
    """

    channel: int
    left: int
    right: int
    raw_data: "np.ndarray"


@dataclass(slots=True)
class Event:
    """One triggered event, its pulses laid out side by side.

    Parameters
    ----------
    event_number : int
    start_time, stop_time : int
        Nanoseconds since 1970.
    sample_duration : int
        Nanoseconds.
    n_channels : int
    dataset_name : str
    n_pulses : int
        Pulses that the digitizers saw; more than are there if a high-energy veto dropped them.
    channels, lefts, lengths : numpy.ndarray of int64, shape (pulses,)
        Channel, first sample (from the event's start) and number of samples of each pulse, as in the file.
    samples : numpy.ndarray of int16, shape (sum of lengths,)
        The pulses' ADC counts one after another.
    """

    event_number: int
    start_time: int
    stop_time: int
    sample_duration: int
    n_channels: int
    dataset_name: str
    n_pulses: int
    channels: "np.ndarray"
    lefts: "np.ndarray"
    lengths: "np.ndarray"
    samples: "np.ndarray"

    def pulses(self) -> Iterator[Pulse]:
        """Go through the pulses one by one, in the file's order."""
        start = 0
        for channel, left, length in zip(self.channels, self.lefts, self.lengths, strict=True):
            stop = start + int(length)
            yield Pulse(int(channel), int(left), int(left) + int(length) - 1, self.samples[start:stop])
            start = stop


def is_raw_file(name: str) -> bool:
    """Return whether a file is one that the event builder leaves in a raw dataset, by its name."""
    return any(name in names for names in SIDE_FILES.values()) or _ZIP_NAME.fullmatch(name) is not None


def zip_names(directory: str | Path) -> list[str]:
    """Names of a run's zips of events, in the order of their events.

    Raises
    ------
    CaxflowError
        If there are none, or one has a name of another kind.
    """
    directory = Path(directory)
    others = (TEMPORARY_ZIP, TRIGGER_ZIP)
    try:
        names = [entry.name for entry in directory.iterdir() if entry.suffix == ".zip"]
    except OSError as error:
        raise CaxflowError(f"{directory}: {error.strerror}", "check the site's root for raw data") from None
    names = sorted((name for name in names if name not in others), key=lambda name: ZipName.parse(name).order)
    if not names:
        raise CaxflowError(f"{directory} has no zips of events", "is it the dataset's directory?")
    return names


def event_numbers(zip_path: str | Path) -> list[int]:
    """Numbers of the events in a zip, ascending, from its central directory only."""
    with _open_zip(zip_path) as archive:
        return _event_numbers(archive, Path(zip_path).name)


def run_event_numbers(directory: str | Path) -> "np.ndarray":
    """Numbers of all events of a run, in the zips' order; int64, shape (events,).

    Raises
    ------
    CaxflowError
        If a zip has others than its name says.
    """
    import numpy as np

    numbers = [event_numbers(Path(directory) / name) for name in zip_names(directory)]
    return np.concatenate([np.asarray(some, np.int64) for some in numbers])


def sniff(data: bytes) -> str:
    """Tell how an event is encoded, from its bytes after zlib: ``"pickle"`` or ``"bson"``.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if data[:1] == b"\x80":
        return "pickle"
    if len(data) >= 5 and int.from_bytes(data[:4], "little") == len(data):
        return "bson"
    raise ValueError("neither a pickle nor BSON")


def encoding(zip_path: str | Path) -> str:
    """Tell how the events of a zip are encoded, from its first: ``"pickle"`` or ``"bson"``."""
    name = Path(zip_path).name
    with _open_zip(zip_path) as archive:
        numbers = _event_numbers(archive, name)
        if not numbers:
            raise CaxflowError(f"{name} holds no events", _MEND)
        with _naming(name, numbers[0]):
            return sniff(_inflate(_read_member(archive, numbers[0])))


def read_event(blob: bytes) -> Event:
    """Decode one member of a zip.

    Parameters
    ----------
    blob : bytes
        zlib-compressed pickle or BSON of one event.

    Raises
    ------
    ValueError
        If it is damaged, holds anything but an event, or asks for anything to be called.
    """
    data = _inflate(blob)
    return _event_from_pickle(data) if sniff(data) == "pickle" else _event_from_bson(data)


def iter_zip(zip_path: str | Path, numbers: Sequence[int] | None = None) -> Iterator[Event]:
    """Go through the events of one zip in ascending order, one at a time in memory.

    Parameters
    ----------
    zip_path : path
    numbers : sequence of int, optional
        Only these events.

    Raises
    ------
    CaxflowError
        Names the zip and the member.
    """
    name = Path(zip_path).name
    with _open_zip(zip_path) as archive:
        for number in _event_numbers(archive, name) if numbers is None else numbers:
            with _naming(name, number):
                event = read_event(_read_member(archive, number))
                if event.event_number != number:
                    raise ValueError(f"holds event {event.event_number}")
            yield event


def check_zip(zip_path: str | Path, encoded: str = "") -> None:
    """See that all events of a zip are data for other programs, too: whole, and made of plain values.

    Python's own unpickler, which pax uses, does what a pickle says, and bytes can be both: BSON for one
    reader, and a pickle for another. So all events are of one encoding.

    Parameters
    ----------
    zip_path : path
    encoded : str, optional
        How they must be encoded, ``"pickle"`` or ``"bson"``; as the first one if not given.

    Raises
    ------
    CaxflowError
        Names the zip and the member.
    """
    name = Path(zip_path).name
    with _open_zip(zip_path) as archive:
        for number in _event_numbers(archive, name):
            with _naming(name, number):
                data = _inflate(_read_member(archive, number))
                found = sniff(data)
                encoded = encoded or found
                if found != encoded:
                    raise ValueError(f"is a {found}, and those before it are of the encoding {encoded}")
                if found == "bson":
                    _event_from_bson(data)
                    continue
                record = _record_from_pickle(data)
                try:
                    safepickle.check_flat(record, len(data))
                except safepickle.RefusedError as error:
                    raise _refused(error) from None
                _event_of_record(record, len(data))


def iter_run(directory: str | Path, zips: Sequence[str] | None = None) -> Iterator[Event]:
    """Go through the events of a run in order, one at a time in memory; `zips` selects some of its zips."""
    for name in zip_names(directory) if zips is None else zips:
        yield from iter_zip(Path(directory) / name)


class _naming:  # noqa: N801 - a context manager, used like a function
    """Give what goes wrong inside the names of the zip and the member."""

    def __init__(self, name: str, number: int):
        self.where = f"{name}, event {number}"

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        # A RuntimeError is zipfile's of members that are encrypted, or compressed in a way it does not know.
        if isinstance(error, ValueError | LookupError | OSError | EOFError | RuntimeError | _ZIP_ERRORS):
            raise CaxflowError(f"{self.where}: {error.args[0] if error.args else error}", _MEND) from None


def _open_zip(path: str | Path) -> zipfile.ZipFile:
    try:
        with Path(path).open("rb") as file:
            if why := zipdirectory.too_large(file, file.seek(0, os.SEEK_END)):
                raise CaxflowError(f"{Path(path).name} {why}", _MEND)
        return zipfile.ZipFile(path)
    except _NO_ZIP as error:
        raise CaxflowError(f"{Path(path).name} cannot be read as a zip: {error}", _MEND) from None
    except OSError as error:
        if error.errno == errno.EINVAL:  # that of a position before the file's begin
            raise CaxflowError(f"{Path(path).name} cannot be read as a zip", _MEND) from None
        raise CaxflowError(f"{path}: {error.strerror}", "check the copy and its permissions") from None


def _event_numbers(archive: zipfile.ZipFile, name: str) -> list[int]:
    members = archive.namelist()
    for member in members:
        if not _MEMBER_NAME.fullmatch(member):
            raise CaxflowError(f"{name}: member {member[:40]!r} is not an event's number", _MEND)
    if sum(member.compress_size for member in archive.infolist()) > archive.start_dir:
        raise CaxflowError(f"{name}: its members take more than it has", _MEND)
    numbers = sorted(map(int, members))
    if _ZIP_NAME.fullmatch(name):
        _check_members(numbers, name)
    return numbers


def _check_members(numbers: list[int], name: str) -> None:
    """See that a zip holds the events that its name says, each once."""
    said = ZipName.parse(name)
    for expected, number in enumerate(numbers, said.first):
        if number > said.last or number < said.first:
            raise CaxflowError(f"{name} holds event {number}, which is none of its own", _MEND)
        if number != expected:
            what = f"holds event {number} twice" if number < expected else f"lacks event {expected}"
            raise CaxflowError(f"{name} {what}", _MEND)
    if said.first + len(numbers) <= said.last:
        raise CaxflowError(f"{name} lacks event {said.first + len(numbers)}", _MEND)


def _read_member(archive: zipfile.ZipFile, number: int) -> bytes:
    member = archive.getinfo(str(number))
    if member.header_offset + member.compress_size > archive.start_dir:
        raise ValueError("ends behind the zip's members")
    # The rules are that it is not compressed.
    most = min(_MAX_EVENT_BYTES, _MOST_REPACKED * member.compress_size + _SMALL_MEMBER)
    if member.file_size > most or member.compress_type in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        raise ValueError("unpacks to more than any event has")
    return archive.read(member)


def _inflate(blob: bytes) -> bytes:
    inflator = zlib.decompressobj()
    most = min(_MAX_EVENT_BYTES, _MOST_PACKED * len(blob) + _SMALL)
    try:
        data = inflator.decompress(blob, most)
    except zlib.error as error:
        raise ValueError(f"cannot be decompressed ({error})") from None
    if not inflator.eof:
        raise ValueError("is cut short" if len(data) < most else "unpacks to more than any event has")
    return data


def _refused(error: safepickle.RefusedError) -> ValueError:
    return ValueError(f"its pickle was refused: {error}")


def _event_from_pickle(data: bytes) -> Event:
    return _event_of_record(_record_from_pickle(data), len(data))


def _record_from_pickle(data: bytes) -> safepickle.Record:
    try:
        record = safepickle.loads(data)
    except safepickle.RefusedError as error:
        raise _refused(error) from None
    if not isinstance(record, safepickle.Record) or record.kind != "Event":
        raise ValueError("its pickle holds something else than an event")
    return record


def _event_of_record(record: safepickle.Record, n_data: int) -> Event:
    pulses = record.fields.get("pulses")
    if not isinstance(pulses, list) or not all(
        isinstance(pulse, safepickle.Record) and pulse.kind == "Pulse" for pulse in pulses
    ):
        raise ValueError("its pulses are not a list of pulses")
    return _event(record.fields, [pulse.fields for pulse in pulses], _pickled_samples, n_data)


def _event_from_bson(data: bytes) -> Event:
    import bson

    try:
        fields = bson.decode(data)
    except (bson.errors.InvalidBSON, RecursionError) as error:
        raise ValueError(f"its BSON is damaged ({error})") from None
    pulses = fields.get("pulses")
    if not isinstance(pulses, list) or not all(isinstance(pulse, dict) for pulse in pulses):
        raise ValueError("its pulses are not a list of pulses")
    return _event(fields, pulses, _bson_samples, len(data))


def _pickled_samples(array) -> bytes:
    if not isinstance(array, safepickle.RawArray) or array.dtype is None:
        raise ValueError("the samples of a pulse are not an array")
    if array.dtype.code != "i2" or array.dtype.order not in ("<", "="):
        raise ValueError(f"the samples of a pulse are {array.dtype.order}{array.dtype.code}, not int16")
    if array.length * 2 != len(array.data):
        raise ValueError(f"a pulse of {array.length} samples holds {len(array.data)} bytes")
    return array.data


def _integers(values: list, name: str) -> "np.ndarray":
    import numpy as np

    # Plain integers only: numpy would also read texts, and round fractions, where it is told the type.
    plain = all(issubclass(kind, int) for kind in set(map(type, values)))
    if values and not (plain and min(values) > -(2**62) and max(values) < 2**62):
        raise ValueError(f"the {name} of a pulse is not an integer")
    return np.array(values, np.int64)


def _bson_samples(data) -> bytes:
    if not isinstance(data, bytes):
        raise ValueError("the samples of a pulse are not bytes")
    return data


def _event(fields: dict, pulses: list[dict], samples_of, n_data: int) -> Event:
    """Check the fields and lay the pulses of an event of `n_data` bytes out side by side."""
    import numpy as np

    def integer(name, default=None, limit=2**31):
        value = fields.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool):
            # Only what is short: a list of a hostile file may be in itself many times.
            shown = repr(value) if isinstance(value, float | None) else type(value).__name__
            raise ValueError(f"its {name} is {shown}, not an integer")
        if not 0 <= value < limit:
            raise ValueError(f"its {name} is {str(value)[:40]}, which no event has")
        return int(value)

    try:
        pieces = [samples_of(pulse["raw_data"]) for pulse in pulses]
        channels, lefts, rights = (
            _integers([pulse[name] for pulse in pulses], name) for name in ("channel", "left", "right")
        )
    except KeyError as error:
        raise ValueError(f"a pulse has no {error.args[0]}") from None
    # One array may be named by many pulses of a hostile file.
    if (n_bytes := sum(map(len, pieces))) > n_data:
        raise ValueError(f"its samples take {n_bytes} bytes, more than it has")
    lengths = np.array([len(piece) // 2 for piece in pieces], np.int64)
    n_channels = integer("n_channels")
    if len(pulses):
        if (rights - lefts + 1 != lengths).any() or 2 * lengths.sum() != n_bytes:
            raise ValueError("the bounds of a pulse contradict the number of its samples")
        if lengths.min() < 1 or channels.min() < 0 or channels.max() >= n_channels:
            raise ValueError("a pulse is empty or in a channel that the detector does not have")
    start, stop = (integer(name, limit=2**63) for name in ("start_time", "stop_time"))
    duration = integer("sample_duration")
    # Samples are counted in 32 bits, in pax as here: 21 s.
    if not (duration > 0 and start < stop < start + duration * 2**31):
        raise ValueError(f"it lasts from {start} to {stop} ns in samples of {duration} ns")
    return Event(
        event_number=integer("event_number"),
        start_time=start,
        stop_time=stop,
        sample_duration=duration,
        n_channels=n_channels,
        dataset_name=name if isinstance(name := fields.get("dataset_name"), str) else "Unknown",
        n_pulses=max(integer("n_pulses", 0), len(pulses)),
        channels=channels,
        lefts=lefts,
        lengths=lengths,
        samples=np.frombuffer(b"".join(pieces), "<i2"),
    )
