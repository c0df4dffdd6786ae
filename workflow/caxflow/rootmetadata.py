"""Metadata in ROOT files as pax and hax keep them: a JSON text that is the title of a TNamed."""

import json
from pathlib import Path

from caxflow.errors import CaxflowError

PROCESSED = "pax_metadata"  # in processed files
MINITREE = "metadata"  # in minitrees


def named(name: str, metadata: dict):
    """Make a TNamed to be written by ``file[name] = …``.

    uproot writes TNamed only as part of other objects, so it is put together here from uproot's own models.
    """
    import uproot

    model = uproot.models.TNamed.Model_TNamed.empty()
    model._bases.append(uproot.models.TObject.Model_TObject.empty())
    model._members |= {"fName": name, "fTitle": json.dumps(metadata)}
    model._deeply_writable = True
    return model


def read(path: str | Path, name: str = PROCESSED) -> dict:
    """Read metadata.

    Raises
    ------
    CaxflowError
        If the file has none of that name.
    """
    import uproot

    try:
        with uproot.open(path) as file:
            metadata = json.loads(file[name].member("fTitle"))
    except Exception as error:  # a damaged file makes uproot stumble over anything
        raise CaxflowError(
            f"{path}: its {name} cannot be read ({type(error).__name__})", "is it whole, and of that kind?"
        ) from error
    if not isinstance(metadata, dict):
        raise CaxflowError(f"{path}: its {name} is not a mapping", "is it of that kind?")
    return metadata
