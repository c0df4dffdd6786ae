"""The C++ that a file of pax carries: hax compiles it when it opens the file, so a copied file is code.

pax writes it by a template (``pax/plugins/io/ROOTClass.py`` of pax 6.11.2): declarations of classes whose
members are numbers, texts and lists, without any function. Whatever has another line is not given to hax.
"""

import re
from pathlib import Path

from caxflow.errors import CaxflowError
from caxflow.files import rootfile

KEY = "pax_event_class"
_LARGEST = 1 << 14  # bytes; pax 6.11.2 writes 4,600
_TYPE = (
    r"(?:Bool|U?Char|U?Short|U?Int|U?Long|U?Long64|Float|Float16|Double|Double32)_t|TString"
    r"|std::vector ?<(?:[A-Z]\w{0,99})>"
)
_LINE = re.compile(
    r'#include (?:"(?:TFile|TTree|TObject|TString)\.h"|<vector>)'
    r"|#(?:ifndef|define) [A-Z][A-Z0-9_]{0,99}|#endif"
    r"|class [A-Z]\w{0,99} : public TObject \{|public:|\};"
    rf"|(?:{_TYPE}) +[A-Za-z]\w{{0,99}}(?:\[\d{{1,9}}\])?;"
    r"|ClassDef\([A-Z]\w{0,99}, \d{1,9}\);",
    re.ASCII,
)


def check(path: str | Path) -> None:
    """See that a processed file declares no more than classes of data; one that declares none is good, too.

    Raises
    ------
    CaxflowError
        If it has another text, or several.
    """
    path = Path(path)
    with rootfile.opened(path) as file:
        found = file.keys(recursive=False, filter_name=KEY)
        if not found:
            return
        if len(found) > 1 or file.classname_of(KEY) != "TNamed":
            raise _refusal(path, f"has more than one {KEY}, or one that is no text")
        if file.key(KEY).data_uncompressed_bytes > _LARGEST:
            raise _refusal(path, f"has a {KEY} of more than {_LARGEST} bytes")
        text = file[KEY].member("fTitle")
    for line in text.split("\n"):
        if line.strip(" \t") and not _LINE.fullmatch(line.strip(" \t")):
            raise _refusal(path, f"has {line.strip()[:80]!r} in its {KEY}, which pax does not write")


def _refusal(path: Path, what: str) -> CaxflowError:
    return CaxflowError(
        f"{path.name} {what}: hax would compile and run it", "process the run again at a site that you trust"
    )
