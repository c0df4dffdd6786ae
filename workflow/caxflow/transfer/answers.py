"""What a far end's answers to operations look like: another machine may say anything."""

from typing import Any

from caxflow.transfer.protocol import LARGEST_JSON
from caxflow.transfer.session import BLOCK

_ANSWER = 1 << 20  # bytes of an answer that lists nothing
_KIND = (str, None)
_PATHS = [str]
_SIZE = range(1 << 63)
_LISTING = {"root": str, "single": bool, "files": [[str, int, int, int, int]], "directories": _PATHS}
# By operation of `caxflow.transfer.session.Session`: a type, a tuple of what is allowed, a range of whole
# numbers, a list of one shape for all items or of several for each, a dict by key or, by `str`, for all keys.
# Of others nothing is used.
_SHAPES: dict[str, Any] = {
    "begin": {"exists": _KIND, "data": str, "present": [[str, _SIZE]]},
    "blocks": [[{str: str}, [str]]],
    "census": [[str, str, _SIZE, _SIZE, (int, float), str]],
    "examine": {"manifests": {str: dict}, "zips": {str: [_PATHS, _PATHS]}},
    "free_space": (_SIZE, None),
    "have_one_file_system": bool,
    "inventory": {
        "files": {str: _SIZE},
        "directories": _PATHS,
        "leftovers": _PATHS,
        "zips": {
            str: {"numbers": [[int, int]], "others": _PATHS, "faults": _PATHS, "oddities": _PATHS},
        },
    },
    "kind": _KIND,
    "leftovers": _PATHS,
    "link": bool,
    "look": [
        {
            "kind": _KIND,
            "files": {str: _SIZE},
            "error": str,
            "identity": [[int, int]],
            "changed": (float, None),
        }
    ],
    "manifests": {str: dict},
    "names": _PATHS,
    "permissions": _PATHS,
    "publish": _PATHS,
    "rename": bool,
    "root": {"kind": _KIND, "marker": (str, None), "empty": bool, "folder": (str, None), "others": str},
    "mark": bool,
    "markers": [[str, str]],
    "scan": _LISTING,
    "scan_again": (None, _LISTING),
}


# Operations whose answers name files or folders that are not named in the question.
_LISTS = frozenset(
    ("begin", "census", "examine", "inventory", "leftovers", "look", "manifests", "names", "permissions")
) | {"publish", "scan", "scan_again"}


def largest(operation: str, arguments: dict) -> int:
    """Return how many bytes an answer may have."""
    if operation in _LISTS:
        return LARGEST_JSON
    if operation == "blocks":
        blocks = sum(file[1] // BLOCK + 10 for file in arguments["files"])
        return min(_ANSWER + 200 * blocks, LARGEST_JSON)
    return _ANSWER


def makes_sense(operation: str, arguments: dict, answer) -> bool:
    """Whether an answer has the shape that those who asked rely on."""
    if operation not in _SHAPES:
        return True
    if not _fits(answer, _SHAPES[operation]):
        return False
    algorithms = set(arguments.get("algorithms", ()))
    if operation == "blocks":
        return len(answer) == len(arguments["files"]) and all(set(whole) == algorithms for whole, _ in answer)
    if operation == "look":
        return len(answer) == len(arguments["paths"])
    if operation == "examine":
        return set(answer["manifests"]) == algorithms
    return operation != "manifests" or set(answer) == algorithms


def _fits(value, shape) -> bool:
    if isinstance(shape, range):
        return type(value) is int and value in shape
    if isinstance(shape, tuple):
        return any(_fits(value, each) for each in shape)
    if isinstance(shape, list):
        return isinstance(value, list) and _all_fit(value, shape)
    if isinstance(shape, dict):
        shapes = dict.fromkeys(value, shape[str]) if isinstance(value, dict) and str in shape else shape
        return isinstance(value, dict) and all(_fits(value.get(key), shapes[key]) for key in shapes)
    return value is None if shape is None else isinstance(value, shape)


def _all_fit(values: list, shapes: list) -> bool:
    if len(shapes) == 1:
        shape = shapes[0]  # of thousands of files, mostly a few plain types, which are compared fast
        return all(
            (isinstance(value, list) and [*map(type, value)] == shape) or _fits(value, shape)
            for value in values
        )
    return len(values) == len(shapes) and all(map(_fits, values, shapes))
