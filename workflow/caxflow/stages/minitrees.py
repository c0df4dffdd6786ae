"""Minitrees: made of a processed file that was checked, each checked itself."""

from pathlib import Path

from caxflow import documents
from caxflow.copies import shortcuts
from caxflow.files import manifest
from caxflow.processing import minitrees, products
from caxflow.processing.minitrees import Minitree
from caxflow.stages.job import Job


def make_minitrees(job: Job) -> None:
    """Make the minitrees that the site wants of a processed file."""
    stated = job.receipt(job.site, "processed.done")
    version, processed = stated["entry"]["version"], Path(stated["location"])
    paths = {
        name: minitrees.minitree_path(job.site.roots["minitrees"], version, job.run, name)
        for name in job.site.minitrees.treemakers
    }
    folder = next(iter(paths.values())).parent
    job.entry = {"kind": "minitrees", "host": job.site.host, "version": version, "location": str(folder)}
    job.making = True
    job.check_root("minitrees")
    made = [_make(job, name, processed, path, version) for name, path in paths.items()]
    shortcuts.put(job.place(job.site), job.run, str(folder), job.site.roots["minitrees"], job.say)
    job.permit("minitrees", str(folder))
    job.state(
        job.statement(
            manifest.take(folder, roots=tuple(job.site.roots.values())),
            str(folder),
            documents.TRANSFERRED,
            treemakers=[each.treemaker for each in made],
            rows={each.treemaker: each.rows for each in made},
            seconds=round(sum(each.seconds for each in made), 3),
            made_of=stated["manifest"]["digest"],
            proof="every branch read, event numbers equal to those of the processed file",
        )
    )


def _make(job: Job, name: str, processed: Path, path: Path, version: str) -> Minitree:
    # One that is older than the processed file was made of the file that was there before; a copy of a file
    # that was made anew may be older than its minitrees.
    renewed = job.facts.anew or job.site.name in job.facts.renew
    there = minitrees.existing(path)
    old = there is not None and (renewed or there.stat().st_mtime < processed.stat().st_mtime)
    number, roots = job.facts.number or 0, tuple(job.site.roots.values())
    if name in minitrees.EMBEDDED:
        made = minitrees.make(name, processed, path, number=number, replace=old, roots=roots)
    else:
        recipe = job.site.minitrees
        made = minitrees.make_by_command(
            name,
            recipe.template,
            recipe.environment,
            processed,
            path,
            run=job.run,
            number=number,
            pax_version=version,
            workdir=job.work_dir / products.JOBS,
            log=job.log.name,
            replace=old,
            roots=roots,
        )
    job.say(f"{path}: {made.rows} rows, {made.size} bytes{', was there' if made.adopted else ''}")
    if made.remark:
        job.say(made.remark)
    return made
