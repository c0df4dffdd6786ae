"""The configuration as plain values: what `caxflow.config.load` returns."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from caxflow import targets
from caxflow.config import address, retention
from caxflow.errors import CaxflowError
from caxflow.files.permissions import Wanted
from caxflow.processing.minitrees import Recipe
from caxflow.processing.processors import Processor


@dataclass(frozen=True)
class Access:
    """How other sites reach a site; `method` is ``stream``, ``scp`` or ``local``."""

    method: str = "local"
    host: str | None = None
    port: int | None = None
    user: str | None = None
    jump: str | None = None
    ssh_config: str | None = None
    python: str = "python3"
    connections: int | None = None
    bandwidth: float | None = None
    timeout: float = 60


@dataclass(frozen=True)
class Processed:
    """The processed files a site keeps: the processor that makes them, whether here, with how many cores."""

    version: str
    make: bool = True
    cores: int = 4


@dataclass(frozen=True)
class Site:
    """A place with data roots; `host` is its name in the runs database."""

    name: str
    host: str
    roots: Mapping[str, str]
    access: Access = field(default_factory=Access)
    work_dir: str | None = None
    origin: bool = False
    pull_from: tuple[str, ...] = ()
    push_to: tuple[str, ...] = ()
    processed: Processed | None = None
    minitrees: Recipe | None = None
    permissions: Mapping[str, Wanted] = field(default_factory=dict)

    def raw_path(self, run: targets.Run) -> str:
        """Where this site keeps the raw dataset of `run`."""
        return f"{self.roots['raw']}/{run}"


@dataclass(frozen=True)
class Corrections:
    """Which corrections are written into run documents, and from where the cathode voltage comes.

    Parameters
    ----------
    apply : tuple of str
        Names out of `caxflow.conditions.corrections`; none: other programs do it.
    reprocess : bool
        Whether what was processed with older corrections is processed again.
    slow_control : mapping
        Keyword arguments of `caxflow.conditions.slowcontrol.provider`.
    """

    apply: tuple[str, ...] = ()
    reprocess: bool = False
    slow_control: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunDBAddress:
    """Where the runs database is; `timeout` in seconds, `place` is what says so, for messages."""

    uri: str
    database: str = "run"
    collection: str = "runs_new"
    timeout: float = 10
    place: str = field(default="config.yaml", compare=False)

    def __post_init__(self):
        address.check(self.uri, self.place)


@dataclass(frozen=True)
class Page:
    """Where the runs page is written, at most once in `every` minutes."""

    folder: str
    every: float = 10


@dataclass(frozen=True)
class Mail:
    """How e-mail is sent; user and password come from the environment, `place` is what says the rest."""

    to: tuple[str, ...]
    sender: str
    server: str = "localhost"
    port: int | None = None
    tls: str = "starttls"
    place: str = field(default="config.yaml", compare=False)


@dataclass(frozen=True)
class Notify:
    """Who is told what a human must do: one message in `every` minutes, the same after `remind` hours."""

    webhook: bool = False
    mail: Mail | None = None
    every: float = 60
    remind: float = 24


@dataclass(frozen=True)
class Unattended:
    """What the daemon does: whether it works off ``all``, and how often it calls ``scrub`` and ``purge``."""

    all: bool = True
    every: Mapping[str, datetime.timedelta] = field(default_factory=dict)


@dataclass(frozen=True)
class Selection:
    """Which runs to look after; an empty value admits all."""

    runs: tuple[str, ...] = ()
    detectors: tuple[str, ...] = ()
    first: int | None = None
    last: int | None = None
    after: datetime.datetime | None = None
    before: datetime.datetime | None = None
    tags: tuple[str, ...] = ()
    without_tags: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Settings:
    """The whole configuration; `lease` and `pause` in minutes, `keep_failed` in days.

    `masters` are the sites whose copies are right, the first counts most. `foreign_files` says what comes of
    raw data with files that do not belong to them: ``refuse`` or ``register``. `site_files` is their folder.
    """

    here: Site
    sites: Mapping[str, Site]
    rundb: RunDBAddress
    selection: Selection
    kinds: tuple[str, ...]
    processors: Mapping[str, Processor]
    corrections: Corrections
    masters: tuple[str, ...]
    purge: retention.Purge | None
    scrub: retention.Scrub
    batch_size: int
    verify: bool
    lease: float
    attempts: int
    pause: float
    keep_failed: float
    foreign_files: str
    dry: bool
    page: Page | None = None
    metrics: str | None = None
    notify: Notify | None = None
    daemon: Unattended = field(default_factory=Unattended)
    site_files: str = ""

    def site_at(self, host: str) -> Site | None:
        """Return the site that entries call `host`; None if it is none of the sites."""
        return next((site for site in self.sites.values() if site.host == host), None)

    def site(self, name: str) -> Site:
        """The site called `name`.

        Raises
        ------
        CaxflowError
            If no site file has that name.
        """
        if name not in self.sites:
            raise CaxflowError(f"there is no site {name!r}", f"the sites are {', '.join(sorted(self.sites))}")
        return self.sites[name]

    def processor(self, site: Site) -> Processor:
        """The processor whose files a site keeps.

        Raises
        ------
        CaxflowError
            If the site keeps no processed files.
        """
        if site.processed is None:
            raise CaxflowError(
                f"site {site.name} keeps no processed files", "add 'processed' to its site file"
            )
        return self.processors[site.processed.version]

    @property
    def run_parameters(self) -> tuple[str, ...]:
        """What run documents may set besides for the processor of here: `caxflow.conditions.parameters`."""
        return self.processor(self.here).run_parameters if self.here.processed else ()

    def processed_path(self, site: Site, run: targets.Run) -> str:
        """Where a site keeps the processed file of `run`, of its version."""
        return str(self.processor(site).product_path(site.roots["processed"], run))
