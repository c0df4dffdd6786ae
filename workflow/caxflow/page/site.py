"""Writes the static site: passes over all runs once, newest first, with one month in memory at a time."""

import datetime
import hashlib
import json
import re
import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from caxflow import __version__, documents, legible, owners, plainfile
from caxflow.conditions.corrections import Edition, Voltage
from caxflow.config import Settings
from caxflow.errors import CaxflowError
from caxflow.page import overview
from caxflow.page.details import details, rates_in
from caxflow.page.rows import Codes, row
from caxflow.page.stated import Stated
from caxflow.page.summary import Summary
from caxflow.planning import standing
from caxflow.planning.standing import Standings
from caxflow.rundb import PLANNING
from caxflow.targets import Run

# In JSON: what is not printable ASCII, or a long text; looking is much faster than going through all texts.
_MAY_BE_ODD = re.compile(rf"\\[^\"\\]|\x7f|[^\"]{{{legible.LONGEST}}}")
ASSETS = Path(__file__).with_name("assets")
SCRIPTS = ("runs.js", "table.js", "run.js", "app.js")
FOLDERS = ("data", "data/runs", "data/days", "data/receipts", "assets")
RECENT = 2000  # runs whose copies make the rates

# What the page looks at: what planning does, and what people wrote.
PROJECTION = PLANNING | {"user": 1, "comments": 1}

# Nothing but the page's own files, even where something hostile found its way in.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)
# Accounts that work on something, as messages name them: on a page that all may read, the site is enough.
_ACCOUNT = re.compile(
    r" \([\w.+-]+@[\w.-]+(?:, process \d+[^()<]*)?\)|"
    r"(?<=by )[\w.+-]+@[\w.-]+(?:, process \d+ of this machine)?"
)


def write(
    found: Iterable[Mapping],
    settings: Settings,
    folder: Path,
    work_dir: Path,
    now: datetime.datetime,
    *,
    editions: Sequence[Edition] = (),
    voltage: Voltage | None = None,
    twice: Collection[Run] = (),
) -> int:
    """Make the site, or refresh it: files whose content is the same stay as they are.

    Parameters
    ----------
    found : iterable of mapping
        All run documents, by name, newest first.
    folder : Path
        Where the site is; made if it is missing.
    work_dir : Path
        Where the receipts are.
    now : datetime
        The server's time, naive UTC.
    editions : sequence of Edition
        The corrections that are configured here.
    voltage : callable, optional
        Where the cathode voltage comes from.
    twice : collection of Run
        As `RunsDB.twice` has them.

    Returns
    -------
    int
        Number of runs.

    Raises
    ------
    CaxflowError
        If the folder cannot be written, or holds something else.
    """
    standings = Standings(settings, now, work_dir, editions=editions, voltage=voltage, twice=twice)
    try:
        _check_folder(folder)
        return _Site(settings, folder, work_dir, standings).write(found)
    except OSError as error:
        raise CaxflowError(
            f"the runs page cannot be written: {error.filename or folder}: {error.strerror}",
            "make the folder writable, or name another one",
        ) from error


def _check_folder(folder: Path) -> None:
    index = folder / "index.html"
    for path in (folder, *(folder / name for name in FOLDERS)):
        if path.exists() and (why := owners.strange(path.stat())):
            raise CaxflowError(
                f"{path}, where the runs page is written, {why}",
                f"as its owner: chmod -R go-w {folder}; or name another folder",
            )
    if folder.exists() and not index.exists() and any(folder.iterdir()):
        raise CaxflowError(f"{folder} holds something that is no runs page", "name an empty or a new folder")


class _Site:
    def __init__(self, settings: Settings, folder: Path, work_dir: Path, standings: Standings):
        self.settings = settings
        self.folder = folder
        self.work_dir = work_dir
        self.standings, self.now = standings, standings.now
        self.summary = Summary(settings, self.now)
        self.stated = Stated(work_dir, settings.sites)
        self.months: list[dict] = []
        self.problems: list[str] = []
        self.rates: dict[str, list[float]] = defaultdict(list)
        self.month, self.rows, self.codes = "", [], Codes.of(settings)
        self.day, self.runs = "", []

    def write(self, found: Iterable[Mapping]) -> int:
        for name in FOLDERS:
            self._make(self.folder / name)
        for document in found:
            try:
                self.add(document)
            except CaxflowError as error:
                self.problems.append(str(error))
        self.end_day()
        self.end_month()
        self.put_receipts()
        self.finish()
        return self.summary.runs

    def add(self, document: Mapping) -> None:
        run = documents.run_of(document)
        if run.name[:6] != self.day:
            self.end_day()
            self.day = run.name[:6]
        if run.name[:4] != self.month:
            self.end_month()
            self.month = run.name[:4]
        copies = list(documents.copies(document))
        stands = self.standings.of(document)
        if stands.state == standing.PROBLEM:
            self.problems += stands.waits
        coded = row(document, run, copies, stands, codes=self.codes)
        told = details(document, copies, self.settings, stands)
        told |= {"number": coded[1], "bytes": coded[4], "events": coded[5]}
        told["source"] = documents.value(document, "source", "type", type_=str)
        told["stated"] = run in self.stated
        if told["stated"] and self.summary.runs < RECENT:
            for link, rate in rates_in(self.work_dir, run, self.settings.sites):
                self.rates[link].append(rate)
        self.rows.append(coded)
        self.runs.append(told)
        self.summary.add(document, run, copies, stands)

    def end_day(self) -> None:
        if self.runs:
            text = f"caxflow.day({_json(self.day)}, {_json(self.runs)});\n"
            self.put(f"data/days/{self.day}.js", text)
        self.runs = []

    def end_month(self) -> None:
        if self.rows:
            codes = self.codes
            content = {name: [*words] for name, words in vars(codes).items()} | {"rows": self.rows}
            text = f"caxflow.month({_json(self.month)}, {_json(content)});\n"
            self.put(f"data/runs/{self.month}.js", text)
            digest = hashlib.sha256(text.encode()).hexdigest()[:12]
            self.months.append({"name": self.month, "runs": len(self.rows), "digest": digest})
        self.rows, self.codes = [], Codes.of(self.settings)

    def put_receipts(self) -> None:
        """A file for each day that has receipts, unless it holds the same ones already."""
        stamps = dict(self.stated.days())
        for path in (self.folder / "data/receipts").glob("*.js"):
            if path.stem not in stamps:
                path.unlink()
        for day, stamp in stamps.items():
            path, head = self.folder / f"data/receipts/{day}.js", f"/* {stamp} */"
            if not _begins(path, head):
                self.put(
                    f"data/receipts/{day}.js",
                    f"{head}\ncaxflow.stated({_json(day)}, {_json(self.stated.of(day))});\n",
                )

    def finish(self) -> None:
        here = self.settings.here.name
        texts = {name: (ASSETS / name).read_text(encoding="utf-8") for name in (*SCRIPTS, "style.css")}
        for name, text in texts.items():
            self.put(f"assets/{name}", text)
        rates = {link: statistics.median(rates) for link, rates in self.rates.items()}
        rates = dict(sorted(rates.items(), key=lambda item: -item[1]))
        written = self.now.isoformat(sep=" ", timespec="minutes")
        meta = {
            "here": here,
            "written": self.now.isoformat(timespec="seconds"),
            "runs": self.summary.runs,
            "sites": [{"name": site.name, "host": site.host} for site in self.settings.sites.values()],
            "months": self.months,
        }
        page = Template((ASSETS / "index.html").read_text(encoding="utf-8")).substitute(
            policy=POLICY,
            here=legible.html(here),
            overview=overview.overview(self.summary, rates, list(dict.fromkeys(self.problems))),
            written=written,
            version=__version__,
            meta=_json(meta),
            assets=hashlib.sha256("".join(texts.values()).encode()).hexdigest()[:12],
        )
        self.put("index.html", page)

    def put(self, name: str, text: str) -> None:
        """Write a file at once and whole; the same content leaves it alone."""
        path = self.folder / name
        content = self._public(text).encode()
        if path.exists() and path.stat().st_size == len(content) and path.read_bytes() == content:
            _let_read(path, 0o044)
            return
        plainfile.replace(path, content)

    def _public(self, text: str) -> str:
        """Return a text with paths below the work directory instead of whole ones, and without accounts."""
        forms = str, legible.html, lambda path: _json(path)[1:-1]
        for known in {form(str(self.work_dir)) for form in forms}:
            text = text.replace(f"{known}/", "").replace(known, "the work directory")
        if "@" not in text:
            return text
        return _ACCOUNT.sub(lambda found: "" if found[0].startswith(" ") else "another process", text)

    def _make(self, folder: Path) -> None:
        """Make a folder of the site, and those that it is in; all of its own may be read by a web server."""
        made = [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        inside = [each for each in (folder, *folder.parents) if self.folder in each.parents]
        for each in dict.fromkeys([*inside, *made]):
            _let_read(each, 0o055)


def _let_read(path: Path, others: int) -> None:
    """Let a web server read a file or folder, whatever the account's umask is."""
    mode = path.stat().st_mode & 0o7777
    if mode & others != others:
        path.chmod(mode | others)


def _begins(path: Path, head: str) -> bool:
    if not path.exists():
        return False
    with path.open(encoding="ascii", errors="replace") as file:
        return file.readline().rstrip() == head


def _json(value: Any) -> str:
    """JSON that means the same in a script of its own and inside HTML: ASCII, and no '<' at all.

    Its texts are printable and short.
    """
    text = json.dumps(value, separators=(",", ":"))
    if _MAY_BE_ODD.search(text):
        text = json.dumps(legible.data(value), separators=(",", ":"))
    return re.sub("[<>&]", lambda match: f"\\u{ord(match[0]):04x}", text)
