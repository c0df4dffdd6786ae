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
    params:
        what=removal_in_words,
    message:
        "{params.what}"
    script:
        "../scripts/purge_raw.py"


rule purge:
    """Remove the raw copies at this site that the policy has no use for any more."""
    input:
        everything_to_remove,
