"""Where a value of the configuration stands: which file, or the command line, for messages about it."""

import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from caxflow.errors import CaxflowError

Layer = tuple[str, Mapping[str, Any]]
Places = tuple[tuple[str, tuple[str, ...]], ...]


class Sources:
    """The places that the configuration is read from.

    Parameters
    ----------
    layers : sequence of (str, mapping)
        Name and content of each; the later ones go over the earlier ones, key by key.
    """

    def __init__(self, layers: Sequence[Layer]):
        self._layers = layers

    def of(self, *way: str | int) -> str:
        """Return the name of the place that says what is at the end of a way of keys.

        What is nowhere is missed in the place that has the mapping around it; what nothing says at all, in
        the first one.
        """
        for end in range(len(way), 0, -1):
            for name, content in reversed(self._layers):
                if _says(content, way[:end]):
                    return name
        return self._layers[0][0]

    def places(self, *way: str) -> Places:
        """Return which place says which keys of a mapping, in the order in which they go over each other."""
        last = {key: name for name, content in self._layers for key in _mapping(content, way)}
        found = []
        for name, content in self._layers:
            own = [key for key, value in _mapping(content, way).items() if value is not None]
            found.append((name, tuple(key for key in own if last[key] == name)))
        return tuple((name, keys) for name, keys in found if keys)

    def since(self, read: Callable[[Mapping], object], error: CaxflowError) -> str:
        """Return the name of the place from which on `read`, of all up to there, ends with the error."""
        merged: dict = {}
        where = self._layers[0][0]
        before = False
        for name, content in self._layers:
            merged = merge(merged, content)
            fails = _fails(read, merged, error)
            where = name if fails and not before else where
            before = fails
        return where


def merge(base: Mapping, over: Mapping) -> dict:
    """Return `base` with `over` over it, key by key; lists are replaced."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(merged.get(key), Mapping) and isinstance(value, Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def merge_all(layers: Sequence[Layer], base: Mapping = MappingProxyType({})) -> dict:
    """Return what layers say together: each goes over those before it, and all of them over `base`."""
    return functools.reduce(merge, (content for _, content in layers), dict(base))


def without_nulls(content: Any) -> Any:
    """Return a mapping without the keys that have no value: a later place takes out what it inherits."""
    if not isinstance(content, Mapping):
        return content
    return {key: value for key, value in content.items() if value is not None}


def _mapping(content: Any, way: Sequence[str]) -> Mapping:
    for key in way:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content if isinstance(content, Mapping) else {}


def _fails(read: Callable[[Mapping], object], merged: Mapping, error: CaxflowError) -> bool:
    try:
        read(merged)
    except CaxflowError as found:
        return found.what == error.what
    return False


def _says(content: Any, way: Sequence[str | int]) -> bool:
    for key in way:
        if not isinstance(content, Mapping):
            return True  # a list or a word in this place goes over all that others say
        if key not in content:
            return False
        content = content[key]
    return True
