rule fetch_settings:
    """Freeze the parameters for processing: batch jobs ask no database.

    Uses wildcards site, run.
    """
    input:
        nothing_against_processing,
    output:
        "{site}/{run}.settings.json",
    log:
        "logs/{site}/{run}.fetch_settings.log",
    wildcard_constraints:
        site=MAKERS,
    conda:
        "../envs/caxflow.yaml"
    message:
        "freeze the settings of {wildcards.run} for {wildcards.site}"
    script:
        "../scripts/fetch_settings.py"
