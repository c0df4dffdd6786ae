rule verify_raw:
    """Read a raw copy again from disk; its manifest equals the origin's, as `xxhsum -c` can check.

    Uses wildcards site, run.
    """
    input:
        "{site}/{run}.raw.done",
    output:
        "{site}/{run}.checksum",
    log:
        "logs/{site}/{run}.verify_raw.log",
    conda:
        "../envs/caxflow.yaml"
    resources:
        **one_connection(),
    message:
        "verify {wildcards.run} at {wildcards.site}"
    script:
        "../scripts/verify_raw.py"
