"""The seven corrections of a run, kept as cax kept them.

Each has a collection in the runs database; its newest document (by ``calculation_time``) holds. What it says
for a run is written into the run document under ``processor``, with the version of the document under
``processor.correction_versions.<name>``: an equal version means that there is nothing to do.
"""

import datetime
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from caxflow import documents, values
from caxflow.conditions import expressions, runranges
from caxflow.conditions.runkind import CHANNELS, LED, MUON_VETO, TPC, kind_of
from caxflow.errors import CaxflowError

Version = str | int | float
Voltage = Callable[[str, int, datetime.datetime, datetime.datetime], float | None]
"""Mean cathode voltage in kV of a run, from its name, number, start and end; None where not known yet."""

PROMISED = object()  # stands for a value that a correction is to set

# The name of a file without a folder: pax looks for it among its own.
_FILE_NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,199}", re.ASCII)
_CORRECTION_NAME = re.compile(r"[A-Za-z_]\w{0,99}", re.ASCII)
_MOST_VERSIONS, _LONGEST_VERSION = 100, 200

# pax counts in cm, ns and electrons.
_KM_PER_S = 1e-4
_MICROSECOND = 1000.0
_MUON_VETO_GAIN = 1e6
_LED_GAIN = 1.0


@dataclass(frozen=True)
class Correction:
    """What a correction is called, where its documents are, and which parameter it sets."""

    name: str
    collection: str
    section: str
    parameter: str
    symbols: tuple[str, ...] = ()  # of its function; without, it is a table of run ranges

    @property
    def key(self) -> str:
        """The parameter's key in the run document."""
        return f"processor.{self.section}.{self.parameter}"


CORRECTIONS = (
    Correction("AddGains", "gains", "DEFAULT", "gains", ("pmt", "t", "t0")),
    Correction("AddDriftVelocity", "drift_velocity", "DEFAULT", "drift_velocity_liquid", ("v",)),
    Correction("AddElectronLifetime", "purity", "DEFAULT", "electron_lifetime_liquid", ("t",)),
    Correction("SetNeuralNetwork", "neural_network", "NeuralNet|PosRecNeuralNet", "neural_net_file"),
    Correction("SetFieldDistortion", "field_distortion", "WaveformSimulator", "rz_position_distortion_map"),
    Correction(
        "SetLightCollectionEfficiency",
        "light_collection_efficiency",
        "WaveformSimulator",
        "s1_light_yield_map",
    ),
    Correction("SetS2xyMap", "s2_xy_map", "WaveformSimulator", "s2_light_yield_map"),
)


@dataclass(frozen=True)
class Edition:
    """A correction with one of its documents, read and ready to be asked for any run."""

    correction: Correction
    version: Version
    function: expressions.Expression | None = None
    table: tuple = ()

    def __str__(self) -> str:
        return f"{self.correction.name} {self.version}"


@dataclass(frozen=True)
class Update:
    """A value to write into a run document, under the key and as the version of its edition."""

    edition: Edition
    value: object


@dataclass(frozen=True)
class Waiting:
    """A correction that cannot be made yet, and what it waits for."""

    edition: Edition
    reason: str

    def __str__(self) -> str:
        return f"{self.edition}: {self.reason}"


def read_edition(correction: Correction, document: Mapping) -> Edition:
    """Read a document of the correction's collection.

    Raises
    ------
    CaxflowError
        Naming the correction, if the document has no version, function or table that can be used.
    """
    version, time = document.get("version"), document.get("calculation_time")
    if version is None and values.time(time) is not None:
        version = str(time)  # as cax has it, in whatever type it is
    version = _version(version)
    if version is None:
        raise CaxflowError(
            f"{correction.name}: the newest document has neither a version nor a calculation_time",
            f"mend it in the collection {correction.collection}",
        )
    try:
        if correction.symbols:
            function = expressions.parse(document.get("function"), correction.symbols)
            return Edition(correction, version, function=function)
        return Edition(correction, version, table=runranges.read(document.get("correction")))
    except CaxflowError as error:
        raise CaxflowError(
            f"{correction.name} {version}: {error.what}",
            error.mend or f"mend the document in the collection {correction.collection}",
        ) from error


def newest(database) -> dict[Correction, Mapping | None]:
    """Return the newest document of each correction, or None, by the order of the server, as cax does.

    Parameters
    ----------
    database : pymongo.database.Database
    """
    by_time = [("calculation_time", -1)]
    return {correction: database[correction.collection].find_one(sort=by_time) for correction in CORRECTIONS}


def read_newest(database) -> tuple[list[Edition], list[CaxflowError]]:
    """Read the newest document of every correction.

    Parameters
    ----------
    database : pymongo.database.Database

    Returns
    -------
    editions, problems
        A collection without documents is in neither; a document that cannot be used is a problem, and the
        other corrections go on.
    """
    editions, problems = [], []
    for correction in CORRECTIONS:
        collection = database[correction.collection]
        times = {}
        for each in collection.find({}, {"calculation_time": 1}):
            found = each.get("calculation_time")
            at = values.time(found)
            times[each["_id"]] = at or datetime.datetime.min
            if found is not None and at is None:
                problems.append(_undated(correction, each["_id"], found))
        document = collection.find_one({"_id": max(times, key=times.__getitem__)}) if times else None
        if document is None:
            continue
        try:
            editions.append(read_edition(correction, document))
        except CaxflowError as error:
            problems.append(error)
    return editions, problems


def _undated(correction: Correction, identity: object, found: object) -> CaxflowError:
    what = f"calculation_time of its document {identity} is {values.said(found)}, not a time"
    return CaxflowError(
        f"{correction.name}: {what}: all others count as newer",
        f"correct it in the collection {correction.collection}",
    )


def propose(edition: Edition, document: Mapping, voltage: Voltage) -> Update | Waiting | None:
    """What a correction says about a run.

    Parameters
    ----------
    edition : Edition
    document : mapping
        The run document.
    voltage : callable
        Provider of the cathode voltage (`caxflow.conditions.slowcontrol`); asked by AddDriftVelocity only.

    Returns
    -------
    Update, Waiting or None
        None where nothing is to be done: the version is that of the document, the run has not ended, or the
        correction has no meaning for its detector.

    Raises
    ------
    CaxflowError
        Naming the run and the correction, if its value cannot be computed.
    """
    run = documents.run_of(document)
    if documents.time_of(document.get("end")) is None:
        return None
    if not concerns(edition, document):
        return None
    try:
        if recorded_versions(document).get(edition.correction.name) == edition.version:
            return None
        return _evaluate(edition, document, voltage)
    except CaxflowError as error:
        about = error.what.removeprefix(f"{run}: ")
        raise CaxflowError(f"{run}: {edition}: {about}", error.mend) from error


def recorded_versions(document: Mapping) -> dict[str, Version]:
    """Versions of the corrections in a run document, by name of the correction.

    Raises
    ------
    CaxflowError
        Naming the run, if they are not a mapping.
    """
    processor = document.get("processor", {})
    versions = processor.get("correction_versions", {}) if isinstance(processor, Mapping) else None
    read = read_versions(versions)
    if read is None:
        key = "processor.correction_versions" if isinstance(processor, Mapping) else "processor"
        raise CaxflowError(
            f"{documents.run_of(document)}: {key} does not map corrections to versions",
            "mend or remove it in the run document",
        )
    return read


def read_versions(found: object) -> dict[str, Version] | None:
    """Return versions by name of the correction as a document has them; None if it has others."""
    if not isinstance(found, Mapping) or len(found) > _MOST_VERSIONS:
        return None
    if not all(_CORRECTION_NAME.fullmatch(name) for name in found):
        return None
    read = {name: _version(version) for name, version in found.items()}
    return None if None in read.values() else read


def _version(found: object) -> Version | None:
    if isinstance(found, str):
        return found if len(found) <= _LONGEST_VERSION else None
    return values.number(found)


def file_name(found: object) -> str | None:
    """Return the name of a file that pax has; a path is none, nor anything else that is no plain word."""
    text = values.text(found)
    return str(text) if text is not None and _FILE_NAME.fullmatch(text) else None


def apply(runs, document: Mapping, update: Update) -> bool:
    """Write an update into the runs database, unless someone else has corrected the run meanwhile.

    Parameters
    ----------
    runs : pymongo.collection.Collection
        The collection of run documents.
    document : mapping
        The run document from which `update` was computed.

    Returns
    -------
    bool
        Whether this call wrote it.
    """
    correction = update.edition.correction
    version_key = f"processor.correction_versions.{correction.name}"
    seen = documents.value(document, *version_key.split("."))
    guard = {"$exists": False} if seen is None else {"$eq": seen}
    result = runs.update_one(
        {"_id": document["_id"], version_key: guard},
        {"$set": {correction.key: update.value, version_key: update.edition.version}},
    )
    return result.modified_count == 1


def correct(
    runs, document: Mapping, editions: Iterable[Edition], voltage: Voltage, *, dry: bool = False
) -> Iterator[Update | Waiting | CaxflowError]:
    """Bring one run up to date; give what was written, what is waited for and what failed.

    One correction's failure does not stop the others. With `dry`, nothing is written.
    """
    for edition in editions:
        try:
            outcome = propose(edition, document, voltage)
            if isinstance(outcome, Update) and not dry and not apply(runs, document, outcome):
                continue
        except CaxflowError as error:
            outcome = error
        if outcome is not None:
            yield outcome


def waiting(document: Mapping, editions: Iterable[Edition], voltage: Voltage) -> list[Waiting]:
    """What of a run's corrections cannot be made now; without the values of those that wait for nothing."""
    found = []
    for edition in editions:
        if edition.correction.name in ("AddGains", "AddElectronLifetime"):
            continue
        try:
            outcome = propose(edition, document, voltage)
        except CaxflowError as error:
            outcome = Waiting(edition, str(error))
        if isinstance(outcome, Waiting):
            found.append(outcome)
    return found


def expected(document: Mapping, editions: Iterable[Edition]) -> dict[str, Version]:
    """Versions of a run's corrections once the editions that concern it are written into its document."""
    coming = {each.correction.name: each.version for each in editions if concerns(each, document)}
    return recorded_versions(document) | coming


def concerns(edition: Edition, document: Mapping) -> bool:
    """Whether a correction has a meaning for the run's detector.

    All but the gains describe the TPC, and the numbers of muon-veto runs are all 0.
    """
    return documents.run_of(document).detector != MUON_VETO or edition.correction.name == "AddGains"


def promised(document: Mapping, editions: Iterable[Edition]) -> dict:
    """The document as it will be: with something for each parameter that an edition is to set.

    Only for asking what would be missing: the values are none.
    """
    processor, versions = document.get("processor"), recorded_versions(document)
    sections = {
        name: dict(section)
        for name, section in (processor.items() if isinstance(processor, Mapping) else ())
        if isinstance(section, Mapping)
    }
    for each in editions:
        if concerns(each, document):
            section = sections.setdefault(each.correction.section, {})
            is_new = versions.get(each.correction.name) != each.version
            if is_new or each.correction.parameter not in section:
                section[each.correction.parameter] = PROMISED
    return {**document, "processor": sections}


def stale(processed: Mapping[str, Version], document: Mapping) -> dict[str, tuple[Version | None, Version]]:
    """Corrections that changed since a file was processed.

    Parameters
    ----------
    processed : mapping
        ``correction_versions`` out of the processed file's metadata.
    document : mapping
        The run document.

    Returns
    -------
    dict
        From the correction's name to (version in the file or None, version in the document).
    """
    return {
        name: (processed.get(name), version)
        for name, version in recorded_versions(document).items()
        if processed.get(name) != version
    }


def _evaluate(edition: Edition, document: Mapping, voltage: Voltage) -> Update | Waiting:
    name = edition.correction.name
    if name == "AddGains":
        return Update(edition, _gains(edition, document))
    if name == "AddElectronLifetime":
        lifetime = edition.function(t=_timestamp(document, "start"))
        return Update(edition, _positive(lifetime * _MICROSECOND, "electron lifetime", "ns"))
    if name == "AddDriftVelocity":
        kilovolts = voltage(
            document["name"], _number(document), _time(document, "start"), _time(document, "end")
        )
        if kilovolts is None:
            return Waiting(edition, "waiting for slow control: no cathode voltage of this run yet")
        velocity = edition.function(v=kilovolts)
        return Update(edition, _positive(velocity * _KM_PER_S, "drift velocity", "cm/ns"))
    value = runranges.value_at(edition.table, _number(document))
    if value is None:
        return Waiting(edition, f"waiting for a range that holds run number {_number(document)}")
    if (name := file_name(value)) is None:
        raise CaxflowError(
            f"the value is {values.said(value)}, not the name of a file without a folder", "correct the table"
        )
    return Update(edition, name)


def _gains(edition: Edition, document: Mapping) -> list[float]:
    kind = kind_of(document)
    if kind == MUON_VETO:
        return [_MUON_VETO_GAIN] * CHANNELS[MUON_VETO]
    if kind == LED:
        return [_LED_GAIN] * CHANNELS[LED]
    start = _timestamp(document, "start")
    steps = expressions.Steps()  # of all of them together
    gains = [edition.function(steps, pmt=pmt, t=start, t0=0) for pmt in range(CHANNELS[TPC])]
    for pmt, gain in enumerate(gains):
        # A gain of zero is a tube that is switched off.
        if gain < 0:
            raise CaxflowError(f"the gain of PMT {pmt} is {gain:g}", "mend the function")
    return gains


def _positive(value: float, what: str, unit: str) -> float:
    if value <= 0:
        raise CaxflowError(f"the {what} is {value:g} {unit}", "mend the function, or the value it was given")
    return value


def _number(document: Mapping) -> int:
    number = documents.value(document, "number", type_=int)
    if number is None:
        raise CaxflowError(f"the run's number is {document.get('number')!r:.60}", "correct the run document")
    return number


def _time(document: Mapping, key: str) -> datetime.datetime:
    time = documents.time_of(document.get(key))
    if time is None:
        raise CaxflowError(f"{key} is {document.get(key)!r:.60}, not a time", "correct the run document")
    return time


def _timestamp(document: Mapping, key: str) -> float:
    return _time(document, key).replace(tzinfo=datetime.UTC).timestamp()
