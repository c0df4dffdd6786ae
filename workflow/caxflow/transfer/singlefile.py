"""One file of ``caxflow serve`` and all that it needs, for sites where nothing is installed."""

import io
import os
import secrets
import zipfile
from pathlib import Path

from caxflow import __version__
from caxflow.files.folder import naming
from caxflow.transfer.bootstrap import SERVING, sources

_SHEBANG = b"#!/usr/bin/env python3\n"
_MAIN = """\
import sys
if sys.version_info < (3, 8):
    sys.exit("caxflow serve needs Python 3.8 or newer, this is " + sys.version.split()[0])
from caxflow.transfer.serve import main
sys.exit(main())
"""


def content() -> bytes:
    """Return the file: a zip that Python runs; of one version of caxflow it is always the same."""
    texts = {f"{name.replace('.', '/')}.py": text for name, text in sources(SERVING).items()}
    for package in ("caxflow", "caxflow/files", "caxflow/transfer"):
        texts[f"{package}/__init__.py"] = texts.pop(f"{package}.py")
    texts["caxflow/__init__.py"] = f"__version__ = {__version__!r}\n"
    texts["__main__.py"] = _MAIN
    packed = io.BytesIO()
    packed.write(_SHEBANG)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, text in sorted(texts.items()):
            archive.writestr(zipfile.ZipInfo(name), text)
    return packed.getvalue()


def write(path: Path) -> None:
    """Write it, whole or not at all, for all to read and run, and for its owner alone to change."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with naming(str(path)):  # for what fails
            with open(new, "xb", opener=lambda name, flags: os.open(name, flags, 0o755)) as file:
                file.write(content())
                os.fchmod(file.fileno(), 0o755)
                os.fsync(file.fileno())
            new.replace(path)
    finally:
        new.unlink(missing_ok=True)
