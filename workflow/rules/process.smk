rule process_raw:
    """Process a verified raw copy on the batch system; the product is checked before it is published.

    Uses wildcards site, run. `processed.root` is a link to the file of the version that the site keeps.
    """
    input:
        nothing_against_processing,
        checksum="{site}/{run}.checksum",
        settings="{site}/{run}.settings.json",
        parts=parts_of_run,
    output:
        root="{site}/{run}.processed.root",
        done="{site}/{run}.processed.done",
    log:
        "logs/{site}/{run}.process_raw.log",
    wildcard_constraints:
        site=MAKERS,
    retries: TRY_AGAIN
    conda:
        "../envs/caxflow.yaml"
    threads: cores_for_processing
    resources:
        mem_mb=memory_for_processing,
        runtime=time_for_processing,
        attempt=this_attempt,
    message:
        "process {wildcards.run} at {wildcards.site}, cores: {threads}"
    script:
        "../scripts/process_raw.py"


rule process_part:
    """Process some of a run's zips, where the processor's `scatter` shares a run between several jobs.

    Uses wildcards site, run, part.
    """
    input:
        nothing_against_processing,
        checksum="{site}/{run}.checksum",
        settings="{site}/{run}.settings.json",
    output:
        temp("parts/{site}/{run}.{part}.root"),
    log:
        "logs/{site}/{run}.{part}.process_part.log",
    wildcard_constraints:
        site=MAKERS,
    retries: TRY_AGAIN
    conda:
        "../envs/caxflow.yaml"
    threads: cores_for_part
    resources:
        mem_mb=memory_for_part,
        runtime=time_for_part,
        attempt=this_attempt,
    message:
        "process part {wildcards.part} of {wildcards.run} at {wildcards.site}, cores: {threads}"
    script:
        "../scripts/process_part.py"


rule process_version:
    """Process a verified raw copy by another version than the one that the site keeps, beside that.

    Uses wildcards site, run, version.
    """
    input:
        nothing_against_version,
        checksum="{site}/{run}.checksum",
        settings="{site}/pax_{version}/{run}.settings.json",
    output:
        root="{site}/pax_{version}/{run}.root",
        done="{site}/pax_{version}/{run}.done",
    log:
        "logs/{site}/{run}.pax_{version}.process_version.log",
    wildcard_constraints:
        site=MAKERS,
    retries: TRY_AGAIN
    conda:
        "../envs/caxflow.yaml"
    threads: cores_for_processing
    resources:
        mem_mb=memory_for_processing,
        runtime=time_for_processing,
        attempt=this_attempt,
    message:
        "process {wildcards.run} by pax_{wildcards.version} at {wildcards.site}, cores: {threads}"
    script:
        "../scripts/process_version.py"


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
        **connections("processed"),
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
    resources:
        **one_connection(),
    message:
        "verify the processed file of {wildcards.run} at {wildcards.site}"
    script:
        "../scripts/verify_processed.py"
