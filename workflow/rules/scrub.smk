rule scrub:
    """Read copies at this site again from disk, those first that were not read for longest."""
    input:
        nothing_but_a_list_to_read,
    log:
        "logs/scrub.log",
    conda:
        "../envs/caxflow.yaml"
    message:
        "read copies again, the longest unread first"
    script:
        "../scripts/scrub.py"
