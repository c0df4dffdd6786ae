"""The output tree: written in chunks, complete or not there."""

import json
from collections.abc import Iterator
from pathlib import Path

from caxflow.abilities import sync_folder, sync_path
from caxflow.errors import CaxflowError
from caxflow.files import rootfile
from caxflow.mini.analysis import EVENT_COLUMNS, INTERACTION_COLUMNS, PEAK_COLUMNS, Columns

TREE = "tree"
METADATA = "pax_metadata"  # the name under which pax keeps its own, and other programs look for it
_LISTS = {
    "peaks": PEAK_COLUMNS,
    "interactions": INTERACTION_COLUMNS,
    "s1s": {"": "int32"},
    "s2s": {"": "int32"},
}

# Events a basket: large enough to compress and read well, small enough for any memory.
_CHUNK = 1000
_ZLIB_LEVEL = 4


class TreeWriter:
    """Write columns to ``<output>.part``; on leaving without an error it is synced and renamed to `output`.

    Parameters
    ----------
    output : path
    metadata : dict
        Stored as JSON in a TNamed beside the tree.
    """

    def __init__(self, output: str | Path, metadata: dict):
        self.output = Path(output)
        self.part = self.output.with_name(self.output.name + ".part")
        self.metadata = metadata
        self.events = 0
        self._waiting: list[Columns] = []

    def __enter__(self) -> "TreeWriter":
        import uproot

        try:
            self._file = uproot.recreate(self.part, compression=uproot.ZLIB(_ZLIB_LEVEL))
        except OSError as error:
            raise self._unwritable(error) from None
        self._tree = self._file.mktree(
            TREE,
            EVENT_COLUMNS | {name: _list_type(columns) for name, columns in _LISTS.items()},
            counter_name=lambda name: f"n_{name}",
            field_name=lambda outer, inner: f"{outer}.{inner}" if outer else inner,
        )
        self._file[METADATA] = _named(METADATA, json.dumps(self.metadata, sort_keys=True))
        return self

    def add(self, columns: Columns) -> None:
        """Append the events of one batch."""
        self._waiting.append(columns)
        if sum(len(each["events"]["event_number"]) for each in self._waiting) >= _CHUNK:
            self._flush()

    def __exit__(self, kind, error, trace):
        try:
            if kind is None:
                self._publish()
        except OSError as failure:
            error = failure
        finally:
            self._file.close()
            self.part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise self._unwritable(error) from None

    def _publish(self) -> None:
        self._flush()
        self._file.close()
        sync_path(self.part)
        self.part.rename(self.output)
        sync_folder(self.output.parent)

    def _unwritable(self, error: OSError) -> CaxflowError:
        return CaxflowError(
            f"{self.output} cannot be written: {error.strerror or error}",
            "check the disk and its permissions",
        )

    def _flush(self) -> None:
        if not self._waiting:
            return
        joined = _join(self._waiting)
        self._waiting = []
        self._tree.extend(joined["events"] | {name: _as_lists(joined[name]) for name in _LISTS})
        self.events += len(joined["events"]["event_number"])


def read_columns(path: str | Path) -> Iterator[Columns]:
    """Read a tree that `TreeWriter` wrote, a chunk of events at a time, as it was added."""
    import awkward as ak
    import numpy as np

    with rootfile.opened(path) as file:
        for chunk in file[TREE].iterate(step_size=_CHUNK, library="ak"):
            columns = {"events": {name: np.asarray(chunk[name]) for name in EVENT_COLUMNS}}
            for name, fields in _LISTS.items():
                arrays = {field: chunk[f"{name}.{field}" if field else name] for field in fields}
                columns[name] = {"count": np.asarray(ak.num(next(iter(arrays.values()))))} | {
                    field: np.asarray(ak.flatten(array)) for field, array in arrays.items()
                }
            yield columns


def _list_type(columns: dict[str, str]) -> str:
    if list(columns) == [""]:
        return f"var * {columns['']}"
    fields = ", ".join(f'"{name}": {kind}' for name, kind in columns.items())
    return f"var * {{{fields}}}"


def _join(parts: list[Columns]) -> Columns:
    import numpy as np

    return {
        group: {name: np.concatenate([part[group][name] for part in parts]) for name in parts[0][group]}
        for group in parts[0]
    }


def _as_lists(columns: dict):
    import awkward as ak

    columns = dict(columns)
    count = columns.pop("count")
    flat = columns[""] if "" in columns else ak.zip(columns)
    return ak.unflatten(flat, count)


def _named(name: str, title: str):
    """Make ROOT's TNamed, a name with a text."""
    import uproot

    named = uproot.models.TNamed.Model_TNamed.empty()
    named._bases = [uproot.models.TObject.Model_TObject.empty()]
    named._members.update(fName=name, fTitle=title)
    return named
