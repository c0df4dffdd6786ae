"""A reader of pickles that holds data only: raw events, without the power to call anything.

Python's own unpickler is a machine that calls what the file names, and allocates what the file asks for. This
one knows the operations that protocols 2 to 5 need for plain objects and numpy arrays, and three constructors
(an object of ``pax.datastructure``, an array, a dtype), all of which only write down what they were given.
Everything else is refused by name. The operations are those that `pickletools` documents.
"""

import re
import struct
from dataclasses import dataclass, field

PAX_MODULE = "pax.datastructure"
_NUMPY_CORE = ("numpy.core", "numpy._core")  # before numpy 2, and since
_PROTOCOLS = range(2, 6)
_FIRST_THAT_COUNTS = 4

# One number of a dtype's code: kind and bytes. No objects, no strings, no times.
_DTYPE_CODE = re.compile(r"[biuf][1248]|V\d{1,4}")
_OBJECTS = 0x6F  # flags of a dtype whose items are more than their bytes
_MAX_MEMBERS = 100  # of a dtype; those of the trigger's signals have a dozen

# Each may take memory, a hundred times its own length; a pulse takes about 40, the longest event 10 million.
_MAX_OPERATIONS = 1 << 24
# Bytes of a pickle that go with each list, dictionary or tuple, and with each place in the memo: in events
# they are 30 and more. A few there may always be.
_BYTES_OF_ONE, _FEW = 10, 1000


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

    @classmethod
    def from_buffer(cls, arguments):
        """Write down what protocol 5 gives at once: bytes, dtype, shape, and an order without meaning."""
        match arguments:
            case (bytes(data), RawDtype() as dtype, (int(length),), "C" | "F" | "K", *_):
                return cls(length, dtype, data)
        raise RefusedError("the description of an array is not that of a one-dimensional one")

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
            case (3, str(order), None, None, None, -1, -1, 0, *_) if order in ("<", ">", "|", "="):
                self.order = order
            case (3, "|", None, tuple(names), dict(members), int(size), int(), int(flags), *_) if (
                len(names) <= _MAX_MEMBERS
                and all(type(name) is str for name in names)
                and self.code == f"V{size}"
                and not flags & _OBJECTS
            ):
                self.names, self.members = names, members
                self.numpy()
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
        except (ValueError, TypeError, OverflowError) as error:
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
_FROM_BUFFER, _ENCODE, _BYTES = map(_Name, ("_frombuffer", "encode", "bytes"))
_GLOBALS = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _DTYPE,
    **{(f"{core}.multiarray", "_reconstruct"): _RECONSTRUCT for core in _NUMPY_CORE},
    **{(f"{core}.multiarray", "scalar"): _SCALAR for core in _NUMPY_CORE},
    **{(f"{core}.numeric", "_frombuffer"): _FROM_BUFFER for core in _NUMPY_CORE},
    # Protocol 2 has no bytes: it calls for them.
    ("_codecs", "encode"): _ENCODE,
    ("__builtin__", "bytes"): _BYTES,
}
_CODES = (b"b", "b")  # of what an array is made before its state comes
_EMPTY = tuple(((0,), code) for code in _CODES)
_PLAIN = frozenset((int, float, bool, str, bytes, type(None)))
# What an array that was read at once would have left in the memo beside itself; nothing genuine refers to it.
_PART = _Name("a part of an array")


def _find(module: str, name: str) -> _Name:
    if module == PAX_MODULE and re.fullmatch(r"[A-Za-z]\w{0,63}", name):
        return _PaxClass(name)
    try:
        return _GLOBALS[module, name]
    except KeyError:
        raise RefusedError(f"it names {f'{module}.{name}'[:80]!r}") from None


def _reduce(function, arguments):
    """The calls that numpy's pickles contain, written down instead of made."""
    if function is _BYTES and arguments == ():
        return b""
    if type(arguments) is not tuple or not arguments:
        raise RefusedError("it calls something without arguments")
    if function is _RECONSTRUCT and arguments[0] is _NDARRAY and arguments[1:] in _EMPTY:
        return RawArray()
    if function is _DTYPE:
        code = arguments[0]
        if isinstance(code, str) and _DTYPE_CODE.fullmatch(code):
            return RawDtype(code)
        raise RefusedError(
            f"it names the dtype {code[:20]!r}" if isinstance(code, str) else "its dtype has no name"
        )
    if function is _SCALAR:
        match arguments:
            case (RawDtype(names=()) as dtype, bytes(data)):
                return RawArray(1, dtype, data).numpy()[0].item()
    if function is _FROM_BUFFER:
        return RawArray.from_buffer(arguments)
    if function is _ENCODE:
        match arguments:
            case (str(text), "latin1"):
                return text.encode("latin1")
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
        # Of larger numbers any number have one hash, and each would be compared with all before.
        if type(key) is not str and not (type(key) is int and -(2**31) <= key < 2**31):
            raise RefusedError(
                f"it uses {'a large' if type(key) is int else 'a'} {type(key).__name__} as a key"
            )
        mapping[key] = next(each)


def _extend(sequence, values):
    if type(sequence) is not list:
        raise RefusedError("it appends to something that is no list")
    sequence.extend(values)


def check_flat(record: "Record", most: int) -> None:
    """See that an object and those in its lists are few, however often one is named, and hold plain values.

    Whatever goes through them, as a program that writes them down, then ends.

    Parameters
    ----------
    most : int
        How many values there may be.
    """
    waiting: list = [record]
    while waiting:
        fields = waiting.pop().fields.values()
        most -= len(fields)
        for value in fields:
            if type(value) is list and all(type(item) is Record for item in value):
                most -= len(value)
                waiting += value if most > 0 else ()
            elif type(value) is RawArray:
                most -= len(value.data) // 64
                value.numpy()
            elif type(value) not in _PLAIN:
                raise RefusedError(f"it holds a {type(value).__name__} where a value belongs")
        if most < 0:
            raise RefusedError("it has an object again and again")


def loads(data: bytes):
    """Read one pickle of protocol 2 to 5 that holds plain data, `Record`, `RawArray` and `RawDtype`.

    Byte arrays are read as bytes; buffers that are not in `data` are refused. Time and memory are
    proportional to the length of `data`, whatever it says.

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
# Only references, length and content differ. What may be referred to has a number up to protocol 3; it is
# counted from then on.
_NUMBERED = (
    re.compile(
        rb"h(.)K\0\x85r(....)h(.)\x87r(....)Rr(....)\(K\x01(?:K(.)|M(..))\x85r(....)h(.)\x89(?:C(.)|B(....))",
        re.DOTALL,
    ),
    re.compile(rb"r(....)tr(....)b", re.DOTALL),
)
_COUNTED = (
    re.compile(
        rb"h(.)K\0\x85\x94h(.)\x87\x94R\x94\(K\x01(?:K(.)|M(..))\x85\x94h(.)\x89(?:C(.)|B(....))", re.DOTALL
    ),
    re.compile(rb"\x94t\x94b"),
)
# The same in protocol 5, after a reference to its constructor.
_BUFFER_HEAD = re.compile(rb"\(\x96(........)", re.DOTALL)
_BUFFER_END = re.compile(rb"\x94h(.)(?:K(.)|M(..))\x85\x94h(.)t\x94R\x94", re.DOTALL)


def _array(data: bytes, i: int, memo: dict, counted: bool) -> tuple[RawArray, int] | None:
    """Read at once what follows a reference to the reconstructor, if it is an array as they mostly are.

    Half of all operations are spent so. Any other array gives None, and goes through them one by one.
    """
    head_of, end_of = _COUNTED if counted else _NUMBERED
    head = head_of.match(data, i)
    if head is None:
        return None
    if counted:
        kind, code, byte, word, dtype, short, long = head.groups()
    else:
        kind, zero, code, made, place, byte, word, shape, dtype, short, long = head.groups()
    start = head.end()
    stop = start + int.from_bytes(short or long, "little")
    end, dtype = end_of.match(data, stop), memo.get(dtype[0])
    if end is None or memo.get(kind[0]) is not _NDARRAY or type(dtype) is not RawDtype:
        return None
    if memo.get(code[0]) not in _CODES:
        return None
    array = RawArray(int.from_bytes(byte or word, "little"), dtype, data[start:stop])
    if counted:
        first = len(memo)
        memo.update(zip(range(first, first + 6), (_PART, _PART, array, _PART, _PART, _PART), strict=True))
    else:
        # In their order: one may have the number of another.
        for number, value in zip(
            (zero, made, place, shape, *end.groups()),
            (_PART, _PART, array, _PART, _PART, _PART),
            strict=True,
        ):
            memo[int.from_bytes(number, "little")] = value
    return array, end.end()


def _buffer(data: bytes, i: int, memo: dict) -> tuple[RawArray, int] | None:
    """Read at once what follows a reference to protocol 5's constructor, as `_array` does."""
    head = _BUFFER_HEAD.match(data, i)
    if head is None:
        return None
    start = head.end()
    stop = start + int.from_bytes(head[1], "little")
    end = _BUFFER_END.match(data, stop) if stop < len(data) else None
    if end is None:
        return None
    dtype, byte, word, order = end.groups()
    dtype = memo.get(dtype[0])
    if type(dtype) is not RawDtype or memo.get(order[0]) != "C":
        return None
    array = RawArray(int.from_bytes(byte or word, "little"), dtype, data[start:stop])
    first = len(memo)
    memo.update(zip(range(first, first + 4), (_PART, _PART, _PART, array), strict=True))
    return array, end.end()


def _run(data: bytes):  # noqa: PLR0912, PLR0915 - one branch an operation, the commonest first
    stack, marks, memo, encoded, made = [], [], {}, 0, 0
    push, pop = stack.append, stack.pop
    u32, u64, end = struct.Struct("<I").unpack_from, struct.Struct("<Q").unpack_from, len(data)
    i, most = 0, _FEW + end // _BYTES_OF_ONE
    # Where a pickle counts what may be referred to, and numbers it, too, what is read at once would be
    # something else here than for Python. No pickler does both.
    counts = data[1] >= _FIRST_THAT_COUNTS
    for _ in range(_MAX_OPERATIONS):
        op = data[i]
        i += 1
        if 0x68 <= op < 0x80:
            if op == 0x68:  # h BINGET
                value = memo[data[i]]
                i += 1
                if (value is _RECONSTRUCT and (read := _array(data, i, memo, counts))) or (
                    value is _FROM_BUFFER and counts and (read := _buffer(data, i, memo))
                ):
                    value, i = read
                push(value)
            elif op == 0x72:  # r LONG_BINPUT
                if len(memo) > most:
                    raise _too_many(end)
                if counts:
                    raise _unknown(op)
                memo[u32(data, i)[0]] = stack[-1]
                i += 4
            elif op == 0x71:  # q BINPUT
                if counts:
                    raise _unknown(op)
                memo[data[i]] = stack[-1]
                i += 1
            elif op == 0x74:  # t TUPLE
                mark = marks.pop()
                items = tuple(stack[mark:])
                del stack[mark:]
                push(items)
                if (made := made + 1) > most:
                    raise _too_many(end)
            elif op == 0x75:  # u SETITEMS
                mark = marks.pop()
                items = stack[mark:]
                del stack[mark:]
                _set_items(stack[-1], items)
            elif op == 0x7D:  # } EMPTY_DICT
                push({})
                if (made := made + 1) > most:
                    raise _too_many(end)
            elif op == 0x6A:  # j LONG_BINGET
                push(memo[u32(data, i)[0]])
                i += 4
            elif op == 0x73:  # s SETITEM
                value, key = pop(), pop()
                _set_items(stack[-1], (key, value))
            else:
                raise _unknown(op)
        elif op >= 0x80:
            if op == 0x94:  # MEMOIZE
                if len(memo) > most:
                    raise _too_many(end)
                if not counts:
                    raise _unknown(op)
                memo[len(memo)] = stack[-1]
            elif op == 0x85:  # TUPLE1
                push((pop(),))
                if (made := made + 1) > most:
                    raise _too_many(end)
            elif op in (0x88, 0x89):  # NEWTRUE, NEWFALSE
                push(op == 0x88)
            elif op == 0x87:  # TUPLE3
                third, second, first = pop(), pop(), pop()
                push((first, second, third))
                if (made := made + 1) > most:
                    raise _too_many(end)
            elif op == 0x81:  # NEWOBJ
                arguments, kind = pop(), pop()
                if type(kind) is not _PaxClass or arguments != ():
                    raise RefusedError(f"it makes a {getattr(kind, 'name', type(kind).__name__)!r}")
                push(Record(kind.name))
                if (made := made + 1) > most:
                    raise _too_many(end)
            elif op == 0x86:  # TUPLE2
                second, first = pop(), pop()
                push((first, second))
                if (made := made + 1) > most:
                    raise _too_many(end)
            elif op == 0x8A:  # LONG1
                start = i + 1
                i = start + data[i]
                push(int.from_bytes(data[start:i], "little", signed=True))
            elif op == 0x8C:  # SHORT_BINUNICODE
                start = i + 1
                i = start + data[i]
                if i > end:
                    raise IndexError
                push(data[start:i].decode())
            elif op in (0x8D, 0x8E, 0x96):  # BINUNICODE8, BINBYTES8, BYTEARRAY8
                start = i + 8
                i = start + u64(data, i)[0]
                if i > end:
                    raise IndexError
                piece = data[start:i]
                push(piece.decode() if op == 0x8D else piece)
            elif op == 0x93:  # STACK_GLOBAL
                name, module = pop(), pop()
                if type(name) is not str or type(module) is not str:
                    raise RefusedError(f"it names a {type(name).__name__} of a {type(module).__name__}")
                push(_find(module, name))
            elif op == 0x95:  # FRAME
                i += 8
                if i + u64(data, i - 8)[0] > end:
                    raise IndexError
            elif op == 0x80 and i == 1:  # PROTO
                if data[i] not in _PROTOCOLS:
                    raise RefusedError(f"its protocol is {data[i]}, raw data have 2 to 5")
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
            if (made := made + 1) > most:
                raise _too_many(end)
            if function is _ENCODE:
                encoded += len(stack[-1])
                # One text may be named many times, and each gives bytes of its own.
                if encoded > end:
                    raise RefusedError("it makes more bytes of its texts than it has")
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
            if (made := made + 1) > most:
                raise _too_many(end)
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


def _too_many(size: int) -> RefusedError:
    return RefusedError(f"it makes more objects than an event of {size} bytes has")


def _unknown(op: int) -> RefusedError:
    return RefusedError(f"it uses the operation {bytes([op])!r}, which raw data never need")
