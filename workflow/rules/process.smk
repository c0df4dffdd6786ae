rule process_raw:
    """Process a verified raw copy on the batch system; the product is checked before it is published.

    Uses wildcards site, run. `processed.root` is a link to the file of the version that the site keeps.
    """
    input:
        nothing_against_processing,
        checksum="{site}/{run}.checksum",
        settings="{site}/{run}.settings.json",
    output:
        root="{site}/{run}.processed.root",
        done="{site}/{run}.processed.done",
    log:
        "logs/{site}/{run}.process_raw.log",
    wildcard_constraints:
        site=MAKERS,
    conda:
        "../envs/caxflow.yaml"
    threads: cores_for_processing
    resources:
        mem_mb=memory_for_processing,
        runtime=time_for_processing,
    message:
        "process {wildcards.run} at {wildcards.site}, {threads} cores"
    script:
        "../scripts/process_raw.py"


rule copy_processed:
    """Copy a processed file to a site that does not make it.

    Uses wildcards site, run.
    """
    input:
        receipt_of_processed,
    output:
        "{site}/{run}.processed.done",
    log:
        "logs/{site}/{run}.copy_processed.log",
    wildcard_constraints:
        site=KEEPERS,
    conda:
        "../envs/caxflow.yaml"
    resources:
        transfers=1,
    params:
        source=source_of_processed,
        what=in_words("processed"),
    message:
        "{params.what}"
    script:
        "../scripts/copy_processed.py"


rule link_processed:
    """Point at the processed file that was copied to this site.

    Uses wildcards site, run.
    """
    input:
        "{site}/{run}.processed.done",
    output:
        "{site}/{run}.processed.root",
    log:
        "logs/{site}/{run}.link_processed.log",
    wildcard_constraints:
        site=KEEPERS,
    conda:
        "../envs/caxflow.yaml"
    message:
        "link the processed file of {wildcards.run} at {wildcards.site}"
    script:
        "../scripts/link_processed.py"


rule verify_processed:
    """Read a processed file again from disk and compare it with what was made.

    Uses wildcards site, run.
    """
    input:
        "{site}/{run}.processed.done",
    output:
        "{site}/{run}.processed.checksum",
    log:
        "logs/{site}/{run}.verify_processed.log",
    conda:
        "../envs/caxflow.yaml"
    message:
        "verify the processed file of {wildcards.run} at {wildcards.site}"
    script:
        "../scripts/verify_processed.py"
