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
    params:
        processor=name_of_processor,
    message:
        "freeze the settings of {wildcards.run} for {wildcards.site}"
    script:
        "../scripts/fetch_settings.py"


rule fetch_version_settings:
    """Freeze the parameters for processing by another version than the one that the site keeps.

    Uses wildcards site, run, version.
    """
    input:
        nothing_against_version,
    output:
        "{site}/pax_{version}/{run}.settings.json",
    log:
        "logs/{site}/{run}.pax_{version}.fetch_version_settings.log",
    wildcard_constraints:
        site=MAKERS,
    conda:
        "../envs/caxflow.yaml"
    params:
        processor=name_of_processor,
    message:
        "freeze the settings of {wildcards.run} for pax_{wildcards.version} at {wildcards.site}"
    script:
        "../scripts/fetch_version_settings.py"
