rule purge_raw:
    """Remove the raw copy of a run, if enough other copies were read again lately and equal it.

    Uses wildcards site, run. Other copies whose evidence is stale are read again first, where they are.
    """
    input:
        nothing_against_removal,
    output:
        "{site}/{run}.raw.purged",
    log:
        "logs/{site}/{run}.purge_raw.log",
    conda:
        "../envs/caxflow.yaml"
    resources:
        **one_connection(everywhere=True),
    params:
        what=removal_in_words,
    message:
        "{params.what}"
    script:
        "../scripts/purge_raw.py"


rule purge_version:
    """Remove a processed file of another version than the site keeps, if that one's was read again lately.

    Uses wildcards site, run, version.
    """
    input:
        nothing_against_removal,
    output:
        "{site}/pax_{version}/{run}.purged",
    log:
        "logs/{site}/{run}.pax_{version}.purge_version.log",
    conda:
        "../envs/caxflow.yaml"
    resources:
        **one_connection(everywhere=True),
    params:
        what=removal_in_words,
    message:
        "{params.what}"
    script:
        "../scripts/purge_version.py"


rule purge:
    """Remove the copies at this site that the policy has no use for any more."""
    input:
        everything_to_remove,
