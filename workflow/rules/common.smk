"""Input functions: what a job needs, as the plan of the main process says."""

from caxflow import plan, upkeep

PLANNER = planner.Planner(SETTINGS, main=workflow.is_main_process, preview=lambda: workflow.dryrun)
UPKEEP = upkeep.Upkeep(PLANNER)

# Sites that make their processed files, and sites that only keep copies of them.
PROCESSED = {name: site.processed for name, site in SETTINGS.sites.items() if site.processed}
MAKERS = planner.one_of(name for name, processed in PROCESSED.items() if processed.make)
KEEPERS = planner.one_of(name for name, processed in PROCESSED.items() if not processed.make)


@planner.one_line()
def everything_actionable(wildcards):
    return PLANNER.all()


@planner.one_line()
def copy_in_rundb(wildcards):
    """Nothing where the runs database knows a good copy; else a file nothing makes: then it is copied."""
    there = PLANNER.facts(wildcards.run).there["raw"]
    return [] if wildcards.site in there else f"{wildcards.site}/{wildcards.run}.raw.unknown"


@planner.one_line()
def source_of_raw(wildcards):
    """Receipt of the copy at the source; a file nothing makes where there is a copy to take note of."""
    if wildcards.site in PLANNER.facts(wildcards.run).there["raw"]:
        return f"{wildcards.site}/{wildcards.run}.raw.known"
    return f"{PLANNER.source('raw', wildcards.run, wildcards.site)}/{wildcards.run}.raw.done"


@planner.one_line()
def source_of_processed(wildcards):
    return PLANNER.source("processed", wildcards.run, wildcards.site)


@planner.one_line()
def receipt_of_processed(wildcards):
    return PLANNER.copy_of_processed(wildcards.run, wildcards.site)


@planner.one_line()
def nothing_against_processing(wildcards):
    """No file; a run that cannot be processed ends the workflow with its reason."""
    PLANNER.processing(wildcards.run, wildcards.site)
    return []


@planner.one_line()
def cores_for_processing(wildcards):
    return PLANNER.reservation(wildcards.run, wildcards.site).cores


@planner.one_line()
def memory_for_processing(wildcards, attempt):
    return PLANNER.reservation(wildcards.run, wildcards.site, attempt).memory_mb


@planner.one_line()
def time_for_processing(wildcards, attempt):
    return PLANNER.reservation(wildcards.run, wildcards.site, attempt).runtime


@planner.one_line()
def everything_to_remove(wildcards):
    return UPKEEP.purge()


@planner.one_line()
def nothing_against_removal(wildcards):
    """No file; a copy whose removal the evidence does not allow ends the workflow with the reason."""
    UPKEEP.removal(wildcards.run, wildcards.site)
    return []


@planner.one_line()
def removal_in_words(wildcards):
    return UPKEEP.removal(wildcards.run, wildcards.site)


@planner.one_line()
def nothing_but_a_list_to_read(wildcards):
    return UPKEEP.scrub()


def in_words(kind):
    """A function that says what copying a kind of data of a run means, for messages."""

    @planner.one_line()
    def say(wildcards):
        facts = PLANNER.facts(wildcards.run)
        return plan.describe(facts, kind, wildcards.site, SETTINGS)

    return say
