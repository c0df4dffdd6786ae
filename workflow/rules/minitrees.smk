rule make_minitrees:
    """Make the minitrees of a processed file that was read again, where that is configured.

    Uses wildcards site, run.
    """
    input:
        nothing_against_minitrees,
        processed_file,
    output:
        "{site}/{run}.minitrees.done",
    log:
        "logs/{site}/{run}.make_minitrees.log",
    wildcard_constraints:
        site=WITH_MINITREES,
    retries: TRY_AGAIN
    conda:
        "../envs/caxflow.yaml"
    resources:
        mem_mb=memory_for_minitrees,
        runtime=time_for_minitrees,
        attempt=this_attempt,
    message:
        "make the minitrees of {wildcards.run} at {wildcards.site}"
    script:
        "../scripts/make_minitrees.py"
