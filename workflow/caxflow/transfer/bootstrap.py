"""How the helper gets to the far end: a short command line, then the sources through standard input."""

import functools
import shlex
import zlib
from pathlib import Path

# What the far end may import; the packages themselves are empty there.
_MODULES = (
    "legible",
    "errors",
    "abilities",
    "files.census",
    "files.digests",
    "files.libxxhash",
    "files.folder",
    "files.listing",
    "files.manifest",
    "files.marker",
    "owners",
    "files.permissions",
    "files.reading",
    "files.zipdirectory",
    "threads",
    "transfer.below",
    "transfer.durable",
    "transfer.folder",
    "transfer.helper",
    "transfer.part",
    "transfer.pieces",
    "transfer.protocol",
    "transfer.renaming",
    "transfer.session",
    "transfer.zips",
)

# What `caxflow serve` needs more.
SERVING = (*_MODULES, "transfer.guard", "transfer.restriction", "transfer.serve")

# Ends, on standard error, what a login shell has printed there. The command does not have it in one piece:
# shells and ssh repeat that.
MARK = "caxflow begins"

# Without a line break, `!` or single quote, so that any login shell passes it on as it is.
_LOADER = (
    "import sys,os;sys.path[:1]=[];"
    'sys.stderr and (sys.stderr.write("caxflow "+"begins\\n"),sys.stderr.flush());'
    "v=sys.version.split()[0];"
    'sys.version_info<(3,8)and sys.exit("caxflow needs Python 3.8 or newer, this is "+v);'
    'exec("def r(n):\\n b=b\\"\\"\\n while len(b)<n:\\n  c=os.read(0,n-len(b))\\n'
    '  if not c:sys.exit(4)\\n  b+=c\\n return b");'
    "import zlib;exec(zlib.decompress(r(int(r(8),16))))"
)

_START = """
import sys
from importlib.machinery import ModuleSpec

class Sources:
    def find_spec(self, name, path=None, target=None):
        if name in sources:
            return ModuleSpec(name, self, is_package=not sources[name])
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        exec(compile(sources[module.__name__], "<" + module.__name__ + ">", "exec"), module.__dict__)

sys.meta_path.insert(0, Sources())
from caxflow.transfer.helper import main
main(timeout, roots)
"""


def command(python: str) -> str:
    """The command line that starts the helper with the far end's `python`."""
    # Not after `exec`, which restricted shells refuse.
    return f"{shlex.quote(python)} -c {shlex.quote(_LOADER)}"


def sources(modules) -> dict[str, str]:
    """Return the sources of modules and of their packages, which are empty, by name."""
    package = Path(__file__).parents[1]
    found = {"caxflow": "", "caxflow.files": "", "caxflow.transfer": ""}
    for name in modules:
        found[f"caxflow.{name}"] = (package / (name.replace(".", "/") + ".py")).read_text("utf-8")
    return found


@functools.cache
def program(timeout: float, roots: tuple[str, ...] = ()) -> bytes:
    """What that command reads from standard input first: its length in hexadecimal, then its source."""
    text = f"sources = {sources(_MODULES)!r}\ntimeout = {float(timeout)!r}\nroots = {roots!r}\n{_START}"
    packed = zlib.compress(text.encode("utf-8"), 6)
    return b"%08x" % len(packed) + packed
