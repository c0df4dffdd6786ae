"""Link the profiles to where Snakemake looks for them: ``python -m caxflow.install PROFILES FOLDER``.

``snakemake --profile NAME`` finds ``NAME`` in the working directory, in the user's and in the system's
configuration folder, never in ``profiles/`` of a clone.
"""

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import yaml

from caxflow import owners


def link_profiles(profiles: Path, folder: Path) -> tuple[list[str], list[str]]:
    """Link every profile into `folder`, and never replace anything there.

    Parameters
    ----------
    profiles : Path
        Has one directory a profile, each with a ``config.yaml``.
    folder : Path
        Snakemake's configuration folder; made if it is missing.

    Returns
    -------
    done, refused : list of str
        What was done or found in order, and what is in the way with its mend; one sentence a profile. A
        profile of somebody else is in order.
    """
    done, refused = [], []
    folder.mkdir(parents=True, exist_ok=True)
    for profile in sorted(path.parent.resolve() for path in profiles.glob("*/config.yaml")):
        link = folder / profile.name
        if link.is_symlink() and link.resolve() == profile:
            done.append(f"{link} is in place")
        elif (link / "config.yaml").is_file():
            # A site's own, or another clone's: whoever put it there wants it, at each update.
            done.append(f"{link} stays what it is, {link.resolve()}; remove it if this clone's is wanted")
        elif link.is_symlink():
            refused.append(f"{link} leads to {link.readlink()} -> remove it if this clone is to be used")
        elif link.exists():
            refused.append(f"{link} is not a link of ours -> move it away, or rename it")
        else:
            link.symlink_to(profile)
            done.append(f"{link} leads to {profile}")
    return done, refused


def plugin_hints(profiles: Path) -> list[str]:
    """Name the profiles whose executor has no plugin here, with the command that installs it.

    Snakemake ends such a call with its usage.
    """
    hints = []
    for path in sorted(profiles.glob("*/config.yaml")):
        executor = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("executor", "local")
        plugin = f"snakemake_executor_plugin_{executor.replace('-', '_')}"
        if executor != "local" and find_spec(plugin) is None:
            needs = f"needs Snakemake's plugin for {executor}"
            hints.append(f"profile {path.parent.name} {needs}: pip install {plugin.replace('_', '-')}")
    return hints


def path_hint(scripts: Path) -> str:
    """Tell how to type `snakemake` and get the one of the environment whose programs are in `scripts`."""
    found = shutil.which("snakemake")
    if found and Path(found).parent.resolve() == scripts.resolve():
        return f"snakemake is on your PATH: {found}"
    other = f"; the one there now is {found}" if found else ""
    return f'put snakemake on your PATH: export PATH="{scripts}:$PATH"{other}'


def main(profiles: str, folder: str) -> int:
    """Link, say what was done, and return 1 if anything is in the way."""
    owners.mask()  # who may write to the folder says what Snakemake runs
    try:
        done, refused = link_profiles(Path(profiles), Path(folder))
    except OSError as error:
        sys.stderr.write(f"{error.filename}: {error.strerror} -> mend that, then run it again\n")
        return 1
    scripts = Path(sys.executable).parent
    sys.stdout.write("\n".join([*done, *plugin_hints(Path(profiles)), path_hint(scripts)]) + "\n")
    sys.stderr.write("".join(f"{line}\n" for line in refused))
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
