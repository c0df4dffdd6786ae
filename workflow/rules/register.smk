rule register_raw:
    """Take note of a raw copy that the runs database knows: it is complete, its manifest is taken.

    Uses wildcards site, run.
    """
    input:
        copy_in_rundb,
    output:
        "{site}/{run}.raw.done",
    log:
        "logs/{site}/{run}.register_raw.log",
    conda:
        "../envs/caxflow.yaml"
    resources:
        **one_connection(),
    params:
        what=in_words("raw"),
    message:
        "{params.what}"
    script:
        "../scripts/register_raw.py"
