"""Receipts that the work directory has no more, though the runs database knows what they stated."""

from collections.abc import Mapping
from pathlib import Path

from caxflow import documents, receipts
from caxflow.config import Settings, Site
from caxflow.errors import CaxflowError
from caxflow.targets import Run, Target


def restore(work_dir: Path, site: Site, run: Run, there: Mapping, manifest: Mapping) -> None:
    """Write the receipt of a processed file again.

    That it was read again from the disk is not written: it is, where somebody needs to know.

    Parameters
    ----------
    there : mapping
        ``location`` and ``version`` of the file, and its corrections' versions, as the database has them.
    manifest : mapping
        Its manifest, as a JSON document.
    """
    target = Target(site.name, run, "processed.done")
    entry = {"kind": "processed", "host": site.host, "version": there["version"]}
    facts = {"location": there["location"], "bytes": sum(size for _, size, _ in manifest["files"])}
    if there.get("correction_versions"):
        facts["correction_versions"] = there["correction_versions"]
    # Without a status: it takes note of a copy that the entry speaks of already.
    facts["entry"] = entry | {"location": there["location"], "status": None}
    proof = "the runs database states it"
    receipts.write(
        work_dir / str(target), receipts.statement(target, **facts, proof=proof, manifest=dict(manifest))
    )


def missing(document: Mapping, settings: Settings, work_dir: Path) -> list[Target]:
    """Receipts about good copies that this site has made, and that are not in its work directory."""
    found = []
    here = settings.here
    try:
        run = documents.run_of(document)
        sites = [here, *(settings.sites[name] for name in here.push_to)]
        for site in sites:
            kept = settings.processor(site).pax_version if site.processed else None
            for kind, version in (("raw", None), ("processed", kept)):
                copy = documents.find(document, kind, site.host, version)
                made = copy and copy.status == documents.TRANSFERRED and copy.note.get("owner") == here.name
                target = Target(site.name, run, f"{kind}.done")
                if made and copy.manifest and not (work_dir / str(target)).exists():
                    found.append(target)
    except CaxflowError:
        return []  # its surprises are told elsewhere
    return found
