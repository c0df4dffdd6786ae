"""How the helper gets to the far end: a short command line, then the sources through standard input."""

import functools
import json
import shlex
import zlib
from importlib import resources

# In the order of their imports; `caxflow` and `caxflow.transfer` are empty packages there.
_MODULES = (
    "errors",
    "digests",
    "manifest",
    "transfer.protocol",
    "transfer.folder",
    "transfer.zips",
    "transfer.part",
    "transfer.pieces",
    "transfer.session",
    "transfer.helper",
)

# Without a line break, `!` or single quote, so that any login shell passes it on as it is.
_LOADER = (
    "import sys,os;sys.path[:1]=[];"
    'exec("def r(n):\\n b=b\\"\\"\\n while len(b)<n:\\n  c=os.read(0,n-len(b))\\n'
    '  if not c:sys.exit(4)\\n  b+=c\\n return b");'
    "import zlib;exec(zlib.decompress(r(int(r(8),16))))"
)

_START = """
import json, sys, types
def start(sources, timeout):
    for name in ("caxflow", "caxflow.transfer"):
        package = sys.modules[name] = types.ModuleType(name)
        package.__path__ = []
    sys.modules["caxflow"].transfer = sys.modules["caxflow.transfer"]
    for name, source in sources:
        module = sys.modules[name] = types.ModuleType(name)
        above, _, last = name.rpartition(".")
        exec(compile(source, "<" + name + ">", "exec"), module.__dict__)
        setattr(sys.modules[above], last, module)
    sys.modules["caxflow.transfer.helper"].main(timeout)
"""


def command(python: str) -> str:
    """The command line that starts the helper with the far end's `python`."""
    return f"exec {shlex.quote(python)} -c {shlex.quote(_LOADER)}"


@functools.cache
def program(timeout: float) -> bytes:
    """What that command reads from standard input first: its length in hexadecimal, then its source."""
    package = resources.files("caxflow")
    sources = []
    for name in _MODULES:
        source = package.joinpath(name.replace(".", "/") + ".py").read_text("utf-8")
        sources.append((f"caxflow.{name}", source))
    text = f"{_START}\nstart(json.loads({json.dumps(json.dumps(sources))}), {float(timeout)!r})"
    packed = zlib.compress(text.encode("utf-8"), 6)
    return b"%08x" % len(packed) + packed
