"""The demo's stage: three SSH sites, a runs database, and three simulated raw runs that it knows."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from caxflow.config import HOME
from caxflow.demo.database import DatabaseServer
from caxflow.demo.server import reserve_port
from caxflow.demo.sshd import SshSites, python_first
from caxflow.errors import CaxflowError
from caxflow.targets import Run

SITES = ("lngs", "midway", "tegner")
ORIGIN, ORIGIN_HOST = "lngs", "xe1t-datamanager"
PORT = 27117  # of the database, as profiles/demo/caxflow.yaml says


@dataclass(frozen=True)
class Recipe:
    """What to simulate: `kind` is ``tpc``, ``muon_veto`` or ``led``."""

    run: Run
    kind: str
    number: int
    events: int
    events_per_file: int


RECIPES = (
    Recipe(Run("160315_1432"), "tpc", 1432, 600, 200),
    Recipe(Run("160315_1432", "muon_veto"), "muon_veto", 0, 1000, 500),
    Recipe(Run("160315_1608"), "led", 1433, 200, 100),
)


class Scene:
    """Everything the demo needs, in one directory; a context manager that starts and stops the servers.

    Parameters
    ----------
    directory : Path
        Kept between demos. ``<site>/raw`` and so on are the sites' data, ``ssh/`` and ``rundb/`` the servers'
        own, ``truth/`` what the simulator knows and no site does.
    """

    def __init__(self, directory: Path):
        self.directory = Path(directory).absolute()
        self.work = self.directory / "work"  # as config/demo/midway.yaml says
        self._running = contextlib.ExitStack()

    def __enter__(self) -> "Scene":
        with contextlib.ExitStack() as starting:
            starting.enter_context(self._alone())
            self.sites = starting.enter_context(SshSites(self.directory, SITES))
            database = DatabaseServer(self.directory / "rundb", port=reserve_port(self, PORT))
            self.database = starting.enter_context(database)
            self._write_profile()
            self._running = starting.pop_all()
        return self

    def __exit__(self, *_) -> None:
        self._running.close()

    @property
    def environment(self) -> dict[str, str]:
        """Environment in which ``snakemake --profile demo`` is the one of this scene."""
        return os.environ | {
            "PATH": python_first(os.environ.get("PATH", os.defpath)),
            "XDG_CONFIG_HOME": str(self.directory / "profiles"),
        }

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Have the directory to ourselves; the lock goes with the process that holds it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise CaxflowError(
                    f"a demo is running already in {self.directory}", "use that one, or end it first"
                ) from None
            yield

    def _write_profile(self) -> None:
        """Copy the demo's profile to where this scene's Snakemake looks, with the database's true port."""
        folder = self.directory / "profiles" / "snakemake" / "demo"
        folder.mkdir(parents=True, exist_ok=True)
        for file in (HOME / "profiles" / "demo").glob("*.yaml"):
            text = file.read_text().replace(f"mongodb://127.0.0.1:{PORT}", self.database.uri)
            (folder / file.name).write_text(text)

    def raw(self, run: Run) -> Path:
        """Where a run's raw data are born."""
        return self.sites[ORIGIN].root / "raw" / str(run)

    def simulate(self, say: Callable[[str], None]) -> None:
        """Write the raw runs that are not there yet; a half-written one is written anew."""
        from caxflow.copies import roots
        from caxflow.simulate import simulate_run
        from caxflow.transfer import Place

        for site in self.sites:
            for kind in ("raw",) if site.name == ORIGIN else ("raw", "processed", "minitrees"):
                (site.root / kind).mkdir(exist_ok=True)
                roots.make(Place(site=site.name), str(site.root / kind), site.name, kind)
        for recipe in RECIPES:
            final = self.raw(recipe.run)
            if final.exists():
                continue
            say(f"simulating {recipe.run}: {recipe.events} events, {recipe.kind.replace('_', ' ')}")
            partial = final.with_name(f".{recipe.run}.part")
            shutil.rmtree(partial, ignore_errors=True)
            truth = simulate_run(
                partial,
                recipe.run.name,
                kind=recipe.kind,
                number=recipe.number,
                events=recipe.events,
                events_per_file=recipe.events_per_file,
                seed=recipe.number,
            )
            (self.directory / "truth").mkdir(exist_ok=True)
            truth.save(self.directory / "truth" / f"{recipe.run}.npz")
            partial.rename(final)

    def register(self) -> None:
        """Have the database know the runs, as the experiment's data acquisition would."""
        from caxflow.config import RunDBAddress
        from caxflow.rundb import RunsDB
        from caxflow.simulate import run_document

        with RunsDB(RunDBAddress(self.database.uri)) as database:
            database.init()
            for site in SITES:
                database.init_site(site)
            for recipe in RECIPES:
                raw = self.raw(recipe.run)
                document = run_document(
                    recipe.run.name,
                    kind=recipe.kind,
                    number=recipe.number,
                    events=recipe.events,
                    events_per_file=recipe.events_per_file,
                    locations={ORIGIN_HOST: str(raw)},
                    raw_size_byte=sum(file.stat().st_size for file in raw.iterdir()),
                )
                key = {"name": recipe.run.name, "detector": recipe.run.detector}
                database.runs.update_one(key, {"$setOnInsert": document}, upsert=True)
                known = database.get(recipe.run)["data"][0]["location"]
                if known != str(raw):
                    raise CaxflowError(
                        f"the demo's data were made in {Path(known).parents[2]}, and moved since",
                        "run `make clean`, then `make demo`",
                    )
