"""Folders as the configuration names them."""

import os
import re
from pathlib import Path

from caxflow import variables
from caxflow.errors import CaxflowError

HOME = Path(__file__).resolve().parents[3]


def folder(text: str, path: Path | str, key: str) -> str:
    """Fill in environment variables and demand an absolute, normal path."""

    def value(match: re.Match) -> str:
        name = match[1]
        if name == "CAXFLOW_HOME":
            return os.environ.get(name, str(HOME))
        if not os.environ.get(name):
            raise CaxflowError(
                f"{path}: {key}: environment variable {name} is not set",
                f"export {name}, or write the folder out",
            )
        variables.also([name])  # batch jobs read the configuration, too
        return os.environ[name]

    full = re.sub(r"\$\{(\w+)\}", value, text)
    if not full.startswith("/"):
        raise CaxflowError(f"{path}: {key}: {text!r} is not an absolute path", "let it begin with /")
    if ".." in full.split("/"):
        raise CaxflowError(f"{path}: {key}: {text!r} goes up with '..'", "write the folder itself")
    if not full.isprintable():
        raise CaxflowError(f"{path}: {key}: {text!r} has characters that cannot be seen", "take them out")
    normal = os.path.normpath("/" + full.lstrip("/"))
    if normal == "/":
        raise CaxflowError(f"{path}: {key}: {text!r} is everything", "give it a folder of its own")
    return normal
