"""``caxflow import``: makes site files and a profile from cax's configuration."""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import yaml

from caxflow import config
from caxflow.cli import screen
from caxflow.cli.site import WrongCallError
from caxflow.errors import CaxflowError
from caxflow.legible import printable
from caxflow.switching import caximport

SITES, PROFILES = config.HOME / "config" / "sites", config.HOME / "profiles"
HEAD = "# Made from {source} by `caxflow import`; config/README.md describes every key.\n"

_EPILOG = """\
With --here a profile for that host is made as well. What has no translation, as tape and grid storage, is
named in a note. Files that are there already are never replaced.

exit code: 0 written; 1 it could not be, and nothing was; 2 the command line is wrong

examples:
  caxflow import cax.json --here midway-login1 --name midway-login1=midway xe1t-datamanager=lngs
  caxflow import cax.json --sites /tmp/look --profiles /tmp/look
"""

# For a host that none of the profiles here is made for.
PROFILE = """\
# How caxflow runs at {site}: no batch system, nothing is processed. profiles/README.md has the rest.

# Which site this is, twice: --configfile on the command line replaces the first, --config the second.
configfile: caxflow.yaml
config: [site={site}]

# Checks and copies are all that runs here; cax had one process.
cores: 4
# Copies at a time: two fill the link, more only share it.
resources: [transfers=2]

# A receipt that is there is never made again because code, parameters or software changed.
rerun-triggers: [mtime]
# One run that fails does not keep the others waiting.
keep-going: true
# After kill -9 Snakemake calls a receipt incomplete that was written whole; the stage looks again and adopts.
rerun-incomplete: true
# The workflow has a lock of its own that ends with its process; Snakemake's would outlive a kill -9.
nolock: true
# Seconds that a file may take to show up on a shared file system.
latency-wait: 10
# Receipts say what was done by which version; Snakemake's own record would be millions of files.
drop-metadata: true
# One line a job and how far all is, instead of pages; `--verbose` shows the rest, .snakemake/log keeps it.
logger: caxflow
quiet: [host, reason]
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Describe the sub-command."""
    parser = commands.add_parser(
        "import",
        help="make site files from a cax.json",
        description="Makes a site file for each host of cax's configuration that can be one.",
        epilog=_EPILOG,
        formatter_class=screen.Paragraphs,
    )
    parser.add_argument("source", type=Path, help="cax's configuration, cax.json")
    parser.add_argument(
        "--here", metavar="HOST", help="cax's name of this host; a profile is made for it as well"
    )
    parser.add_argument(
        "--name", metavar="HOST=SITE", nargs="*", default=[], help="another name for a host's site"
    )
    parser.add_argument("--processor", metavar="VERSION", help="processor whose files the sites keep")
    parser.add_argument("--sites", type=Path, default=SITES, help="folder of the site files")
    parser.add_argument("--profiles", type=Path, default=PROFILES, help="folder of the profiles")
    parser.set_defaults(run=_import)


def _import(arguments: argparse.Namespace) -> int:
    hosts, twice = caximport.read(arguments.source)
    names = dict(_pair(word) for word in arguments.name)
    made = caximport.translate(hosts, names, arguments.processor, arguments.here)
    here = _here(arguments.here, made)
    notes = [*twice, *made.notes]
    head = HEAD.format(source=arguments.source.name)
    sites = {
        f"{name}.yaml": head + _text(site if name == here else _elsewhere(site))
        for name, site in made.sites.items()
    }
    _check(sites, here, made)
    files = {arguments.sites / name: text for name, text in sites.items()}
    if here:
        folder = arguments.profiles / here
        files[folder / "config.yaml"], source = _profile(arguments.here, here)
        notes.append(f"{arguments.here}: its profile is {source}")
        elsewhere = {"sites_dir": str(arguments.sites.absolute())} if arguments.sites != SITES else {}
        files[folder / "caxflow.yaml"] = head + _text({"site": here} | elsewhere | made.here)
    in_the_way = [path for path in files if path.exists()]
    if in_the_way:
        raise CaxflowError(
            f"{', '.join(map(str, in_the_way))}: is there already, and nothing was written",
            "move it away, or name other folders with --sites and --profiles",
        )
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")
    for note in notes:
        print(f"note: {note}")
    if here:
        profile = printable(here if arguments.profiles == PROFILES else str(arguments.profiles / here))
        source = printable(str(arguments.source))
        print(f"next: caxflow doctor --profile {profile}; caxflow shadow {source} --profile {profile}")
    return 0


def _check(sites: dict[str, str], here: str | None, made: caximport.Imported) -> None:
    """Read what is about to be written as every later call will."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in sites.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        try:
            if here:
                config.load({"site": here, "sites_dir": folder} | made.here)
            else:
                config.load_sites(Path(folder), "--sites")
        except CaxflowError as error:
            what = error.what.replace(f"{folder}/", "")
            raise CaxflowError(f"{what}; nothing was written", error.mend) from error


def _profile(host: str, site: str) -> tuple[str, str]:
    """Return the profile for a host, and what it is: the one that comes with caxflow, where there is one."""
    for path in sorted((config.HOME / "profiles").glob("*/config.yaml")):
        shipped = path.parent.name
        own = config.HOME / "config" / "sites" / f"{shipped}.yaml"
        if not own.exists() or config.read_yaml(own).get("host") != host:
            continue
        text = path.read_text(encoding="utf-8").replace(f"[site={shipped}]", f"[site={site}]")
        batch = config.read_yaml(path).get("caxflow-system")
        how = f"processing goes to {batch}" if batch else "nothing is processed"
        return f"# As profiles/{shipped}, by `caxflow import`.\n{text}", f"as profiles/{shipped}: {how}"
    none = "one without a batch system; profiles/README.md has what processing needs"
    return PROFILE.format(site=site), none


def _here(host: str | None, made: caximport.Imported) -> str | None:
    if host is None:
        return None
    for name, site in made.sites.items():
        if site["host"] == host:
            return name
    why = "; ".join(note for note in made.notes if note.startswith(f"{host}: "))
    hosts = ", ".join(site["host"] for site in made.sites.values()) or "none"
    raise WrongCallError(
        f"--here {host}: no site was made for it{why and f' ({why})'}", f"hosts that are sites: {hosts}"
    )


def _elsewhere(site: dict[str, Any]) -> dict[str, Any]:
    """A site's file where no workflow of this clone runs: its own work directory is not our matter."""
    return {key: value for key, value in site.items() if key != "work_dir"}


def _pair(word: str) -> tuple[str, str]:
    host, equals, site = word.partition("=")
    if not equals:
        raise WrongCallError(f"--name {word!r} is not HOST=SITE", "write --name midway-login1=midway")
    return host, site


def _text(content: dict) -> str:
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None)
