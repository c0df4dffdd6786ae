"""The page of a processed run for Snakemake's report."""

from caxflow import receipts
from caxflow.monitoring import runreport
from caxflow.stages.job import Job


def report_run(job: Job) -> None:
    """Draw the spectra of a processed run, with its counts and where it comes from."""
    made, settings = job.receipt(job.site, "processed.done"), job.receipt(job.site, "settings.json")
    others = {
        stage: job.receipt(job.site, stage) if job.path(stage).exists() else None
        for stage in ("raw.done", "minitrees.done")
    }
    page = runreport.page(runreport.read_spectra(made["location"]), made, settings, others)
    receipts.write(job.output, page)
