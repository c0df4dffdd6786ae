# A copy that is there is taken note of; only where there is none, one is made.
ruleorder: register_raw > copy_raw


rule copy_raw:
    """Copy a raw dataset to a site, hashed at both ends while it moves, published by one rename.

    Uses wildcards site, run.
    """
    input:
        source_of_raw,
    output:
        "{site}/{run}.raw.done",
    log:
        "logs/{site}/{run}.copy_raw.log",
    conda:
        "../envs/caxflow.yaml"
    resources:
        **connections("raw"),
        transfers=1,
    params:
        what=in_words("raw"),
    message:
        "{params.what}"
    script:
        "../scripts/copy_raw.py"
