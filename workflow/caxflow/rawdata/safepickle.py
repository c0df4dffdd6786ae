"""A reader of pickles that holds data only: raw events, without the power to call anything.

Python's own unpickler is a machine that calls what the file names, and allocates what the file asks for. This
one knows the operations that protocol 2 and 3 need for plain objects and numpy arrays, and three constructors
(an object of ``pax.datastructure``, an array, a dtype), all of which only write down what they were given.
Everything else is refused by name. The operations are those that `pickletools` documents.
"""

import re
import struct
from dataclasses import dataclass, field

PAX_MODULE = "pax.datastructure"
_NUMPY_CORE = ("numpy.core.multiarray", "numpy._core.multiarray")

# One number of a dtype's code: kind and bytes. No objects, no strings, no times.
_DTYPE_CODE = re.compile(r"[biuf][1248]|V\d{1,4}")
_MAX_MEMBERS = 100  # of a dtype; those of the trigger's signals have a dozen

# Each may take memory, a hundred times its own length; a pulse takes about 40, the longest event 10 million.
_MAX_OPERATIONS = 1 << 24


class RefusedError(ValueError):
    """A pickle asks for something that raw data never need; the message says what."""


@dataclass(slots=True)
class Record:
    """An object of ``pax.datastructure``: its class's name and its attributes."""

    kind: str
    fields: dict = field(default_factory=dict)


@dataclass(slots=True)
class RawArray:
    """A one-dimensional array, not yet made: its length, its dtype and its bytes."""

    length: int = -1
    dtype: "RawDtype | None" = None
    data: bytes = b""

    def set_state(self, state):
        try:
            version, (length,), dtype, _, data = state
        except (TypeError, ValueError):
            raise RefusedError("the state of an array is not that of a one-dimensional one") from None
        if version != 1 or type(length) is not int or type(dtype) is not RawDtype or type(data) is not bytes:
            raise RefusedError("an array holds something else than numbers")
        self.length, self.dtype, self.data = length, dtype, data

    def numpy(self):
        """Make the array; a read-only view of the bytes that the file held."""
        import numpy as np

        if self.dtype is None:
            raise RefusedError("an array has no content")
        dtype = self.dtype.numpy()
        if self.length * dtype.itemsize != len(self.data):
            raise RefusedError(f"an array of {self.length} {dtype} holds {len(self.data)} bytes")
        return np.frombuffer(self.data, dtype)


@dataclass(slots=True)
class RawDtype:
    """What an array consists of: a code such as ``i2``, a byte order, or names with dtypes and offsets."""

    code: str
    order: str = "<"
    names: tuple = ()
    members: dict = field(default_factory=dict)

    def set_state(self, state):
        match state:
            case (3, str(order), None, None, None, *_) if order in ("<", ">", "|", "="):
                self.order = order
            case (3, "|", None, tuple(names), dict(members), *_) if len(names) <= _MAX_MEMBERS and all(
                type(name) is str for name in names
            ):
                self.names, self.members = names, members
            case _:
                raise RefusedError("the description of a dtype is not that of plain numbers")

    def numpy(self):
        """Make the dtype by numpy's constructor, which checks what ``dtype.__setstate__`` believes."""
        import numpy as np

        if not self.names:
            if self.code.startswith("V"):
                raise RefusedError("a dtype without meaning (V)")
            return np.dtype(self.code).newbyteorder(self.order)
        formats, offsets = [], []
        for name in self.names:
            match self.members.get(name):
                case (RawDtype(names=()) as member, int(offset)):
                    formats.append(member.numpy())
                    offsets.append(offset)
                case _:
                    raise RefusedError(f"the member {name!r} of a dtype is not a plain number")
        try:
            return np.dtype(
                {
                    "names": list(self.names),
                    "formats": formats,
                    "offsets": offsets,
                    "itemsize": int(self.code[1:]),
                }
            )
        except (ValueError, TypeError) as error:
            raise RefusedError(f"a dtype contradicts itself: {error}") from None


class _Name:
    """A global that the file may name; it can be compared, never called."""

    __slots__ = ("name",)

    def __init__(self, name):
        self.name = name


class _PaxClass(_Name):
    """The name of a class in ``pax.datastructure``."""

    __slots__ = ()


_RECONSTRUCT, _SCALAR, _NDARRAY, _DTYPE = map(_Name, ("_reconstruct", "scalar", "ndarray", "dtype"))
_GLOBALS = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _DTYPE,
    **{(core, "_reconstruct"): _RECONSTRUCT for core in _NUMPY_CORE},
    **{(core, "scalar"): _SCALAR for core in _NUMPY_CORE},
}


def _find(module: str, name: str) -> _Name:
    if module == PAX_MODULE and re.fullmatch(r"[A-Za-z]\w{0,63}", name):
        return _PaxClass(name)
    try:
        return _GLOBALS[module, name]
    except KeyError:
        raise RefusedError(f"it names {f'{module}.{name}'[:80]!r}") from None


def _reduce(function, arguments):
    """The three calls that numpy's pickles contain, written down instead of made."""
    if type(arguments) is not tuple or not arguments:
        raise RefusedError("it calls something without arguments")
    if function is _RECONSTRUCT and arguments[0] is _NDARRAY:
        return RawArray()
    if function is _DTYPE:
        code = arguments[0]
        if isinstance(code, str) and _DTYPE_CODE.fullmatch(code):
            return RawDtype(code)
        raise RefusedError(f"it names the dtype {str(code)[:20]!r}")
    if function is _SCALAR:
        match arguments:
            case (RawDtype(names=()) as dtype, bytes(data)):
                return RawArray(1, dtype, data).numpy()[0].item()
    raise RefusedError(f"it calls {getattr(function, 'name', type(function).__name__)!r}")


def _build(target, state):
    if type(target) is Record:
        if type(state) is not dict:
            raise RefusedError(f"the attributes of a {target.kind} are not a dictionary")
        # Joining them each time would make a short file last for hours.
        if target.fields:
            raise RefusedError(f"it sets the attributes of a {target.kind} twice")
        target.fields = state
    elif type(target) in (RawArray, RawDtype):
        target.set_state(state)
    else:
        raise RefusedError(f"it sets the state of a {type(target).__name__}")


def _set_items(mapping, items):
    if type(mapping) is not dict or len(items) % 2:
        raise RefusedError("it adds items to something that is no dictionary")
    each = iter(items)
    for key in each:
        if type(key) is not str and type(key) is not int:
            raise RefusedError(f"it uses a {type(key).__name__} as a key")
        mapping[key] = next(each)


def _extend(sequence, values):
    if type(sequence) is not list:
        raise RefusedError("it appends to something that is no list")
    sequence.extend(values)


def loads(data: bytes):
    """Read one pickle of protocol 2 or 3 that holds plain data, `Record`, `RawArray` and `RawDtype`.

    Time and memory are proportional to the length of `data`, whatever it says.

    Raises
    ------
    RefusedError
        If it holds anything else, or is damaged.
    """
    try:
        return _run(data)
    except RefusedError:
        raise
    except (IndexError, KeyError, ValueError, struct.error):
        raise RefusedError("it is cut short or damaged") from None


# How Python's pickler writes every array but a file's first: reconstruction, length, dtype, content, state.
# Only references, length and content differ.
_ARRAY_HEAD = re.compile(
    rb"h(.)K\0\x85r....h.\x87r....Rr(....)\(K\x01(?:K(.)|M(..))\x85r....h(.)\x89(?:C(.)|B(....))", re.DOTALL
)
_ARRAY_END = re.compile(rb"r....tr....b", re.DOTALL)


def _array(data: bytes, i: int, memo: dict) -> tuple[RawArray, int] | None:
    """Read at once what follows a reference to the reconstructor, if it is an array as they mostly are.

    Half of all operations are spent so. Any other array gives None, and goes through them one by one.
    """
    head = _ARRAY_HEAD.match(data, i)
    if head is None:
        return None
    kind, place, byte, word, dtype, short, long = head.groups()
    start = head.end()
    stop = start + int.from_bytes(short or long, "little")
    end, dtype = _ARRAY_END.match(data, stop), memo.get(dtype[0])
    if end is None or memo.get(kind[0]) is not _NDARRAY or type(dtype) is not RawDtype:
        return None
    array = RawArray(int.from_bytes(byte or word, "little"), dtype, data[start:stop])
    memo[int.from_bytes(place, "little")] = array
    return array, end.end()


def _run(data: bytes):  # noqa: PLR0912, PLR0915 - one branch an operation, the commonest first
    stack, marks, memo = [], [], {}
    push, pop = stack.append, stack.pop
    u32, end = struct.Struct("<I").unpack_from, len(data)
    i = 0
    for _ in range(_MAX_OPERATIONS):
        op = data[i]
        i += 1
        if 0x68 <= op < 0x80:
            if op == 0x68:  # h BINGET
                value = memo[data[i]]
                i += 1
                if value is _RECONSTRUCT and (read := _array(data, i, memo)):
                    value, i = read
                push(value)
            elif op == 0x72:  # r LONG_BINPUT
                memo[u32(data, i)[0]] = stack[-1]
                i += 4
            elif op == 0x71:  # q BINPUT
                memo[data[i]] = stack[-1]
                i += 1
            elif op == 0x74:  # t TUPLE
                mark = marks.pop()
                items = tuple(stack[mark:])
                del stack[mark:]
                push(items)
            elif op == 0x75:  # u SETITEMS
                mark = marks.pop()
                items = stack[mark:]
                del stack[mark:]
                _set_items(stack[-1], items)
            elif op == 0x7D:  # } EMPTY_DICT
                push({})
            elif op == 0x6A:  # j LONG_BINGET
                push(memo[u32(data, i)[0]])
                i += 4
            elif op == 0x73:  # s SETITEM
                value, key = pop(), pop()
                _set_items(stack[-1], (key, value))
            else:
                raise _unknown(op)
        elif op >= 0x80:
            if op == 0x85:  # TUPLE1
                push((pop(),))
            elif op in (0x88, 0x89):  # NEWTRUE, NEWFALSE
                push(op == 0x88)
            elif op == 0x87:  # TUPLE3
                third, second, first = pop(), pop(), pop()
                push((first, second, third))
            elif op == 0x81:  # NEWOBJ
                arguments, kind = pop(), pop()
                if type(kind) is not _PaxClass or arguments != ():
                    raise RefusedError(f"it makes a {getattr(kind, 'name', type(kind).__name__)!r}")
                push(Record(kind.name))
            elif op == 0x86:  # TUPLE2
                second, first = pop(), pop()
                push((first, second))
            elif op == 0x8A:  # LONG1
                start = i + 1
                i = start + data[i]
                push(int.from_bytes(data[start:i], "little", signed=True))
            elif op == 0x80:  # PROTO
                if data[i] not in (2, 3):
                    raise RefusedError(f"its protocol is {data[i]}, raw data have 3")
                i += 1
            else:
                raise _unknown(op)
        elif op == 0x4B:  # K BININT1
            push(data[i])
            i += 1
        elif op == 0x28:  # ( MARK
            marks.append(len(stack))
        elif op == 0x4D:  # M BININT2
            push(data[i] | data[i + 1] << 8)
            i += 2
        elif op == 0x62:  # b BUILD
            state = pop()
            _build(stack[-1], state)
        elif op == 0x29:  # ) EMPTY_TUPLE
            push(())
        elif op == 0x52:  # R REDUCE
            arguments, function = pop(), pop()
            push(_reduce(function, arguments))
        elif op in (0x42, 0x58):  # B BINBYTES, X BINUNICODE
            start = i + 4
            i = start + u32(data, i)[0]
            if i > end:
                raise IndexError
            piece = data[start:i]
            push(piece if op == 0x42 else piece.decode())
        elif op == 0x43:  # C SHORT_BINBYTES
            start = i + 1
            i = start + data[i]
            if i > end:
                raise IndexError
            push(data[start:i])
        elif op == 0x4A:  # J BININT
            push(struct.unpack_from("<i", data, i)[0])
            i += 4
        elif op == 0x4E:  # N NONE
            push(None)
        elif op == 0x47:  # G BINFLOAT
            push(struct.unpack_from(">d", data, i)[0])
            i += 8
        elif op == 0x5D:  # ] EMPTY_LIST
            push([])
        elif op == 0x65:  # e APPENDS
            mark = marks.pop()
            items = stack[mark:]
            del stack[mark:]
            _extend(stack[-1], items)
        elif op == 0x61:  # a APPEND
            item = pop()
            _extend(stack[-1], [item])
        elif op == 0x63:  # c GLOBAL
            middle = data.index(b"\n", i, i + 256)
            stop = data.index(b"\n", middle + 1, middle + 256)
            push(_find(data[i:middle].decode(), data[middle + 1 : stop].decode()))
            i = stop + 1
        elif op == 0x2E:  # . STOP
            return pop()
        else:
            raise _unknown(op)
    raise RefusedError(f"it takes more than {_MAX_OPERATIONS} operations, more than any event does")


def _unknown(op: int) -> RefusedError:
    return RefusedError(f"it uses the operation {bytes([op])!r}, which raw data never need")
