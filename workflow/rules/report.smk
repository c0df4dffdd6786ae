rule report_run:
    """Draw the spectra of a processed run, with its counts and where it comes from, for `--report`.

    Uses wildcards site, run.
    """
    input:
        processed_file,
    output:
        report(
            "{site}/{run}.report.html",
            caption="../report/run.rst",
            category="Runs at {site}",
            labels=label_of_run,
        ),
    log:
        "logs/{site}/{run}.report_run.log",
    wildcard_constraints:
        site=MAKERS,
    conda:
        "../envs/caxflow.yaml"
    resources:
        mem_mb=1500,
    message:
        "draw the spectra of {wildcards.run} at {wildcards.site}"
    script:
        "../scripts/report_run.py"
