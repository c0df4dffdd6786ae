"""Input functions: what a job needs, as the plan of the main process says."""

from caxflow.batch import lastwords
from caxflow.config import reach
from caxflow.monitoring import records
from caxflow.planning import interrupts, requests, upkeep
from caxflow.planning.facts import describe
from caxflow.processing import minitrees, processors


def only_a_look():
    """Whether nothing is run: a preview, or `--summary`, `--dag` and the like, for which there is no executor."""
    return workflow.dryrun or workflow.executor_plugin is None


def named():
    """Targets and rules that were asked for by name."""
    return workflow.dag_settings.targets if workflow.dag_settings else ()


PLANNER = planner.Planner(SETTINGS, workflow.is_main_process, only_a_look, named)
UPKEEP = upkeep.Upkeep(PLANNER)


def give_up(number):
    """Leave a job no further attempts; with its resources as they are, for they are given back as reserved."""
    for job in list(workflow.dag.jobs):
        if workflow.dag.jobid(job) == number:
            job._attempt = job.restart_times + 1


if workflow.is_main_process:
    logger.addFilter(interrupts.Once(PLANNER.work_dir))
    shell.prefix(interrupts.DEAF)
    logger.addFilter(lastwords.LastWords(SETTINGS, PLANNER.work_dir, give_up))
    logger.addFilter(requests.InOurWords(SETTINGS, lambda: [rule.name for rule in workflow.rules]))
logger.addFilter(records.Legible())

# For want of memory or time; a job on a batch system is a call of its own, which has nothing to try again.
TRY_AGAIN = processors.ATTEMPTS - 1 if workflow.is_main_process else 0

# Sites that make their processed files, and sites that only keep copies of them.
PROCESSED = {name: site.processed for name, site in SETTINGS.sites.items() if site.processed}
MAKERS = planner.one_of(name for name, processed in PROCESSED.items() if processed.make)
KEEPERS = planner.one_of(name for name, processed in PROCESSED.items() if not processed.make)
WITH_MINITREES = planner.one_of(name for name, site in SETTINGS.sites.items() if site.minitrees)


def connections(kind):
    """Resources of a copy: how many connections it opens at most to each site that is far.

    So those of all jobs together can be bounded.
    """

    def to(site):
        @planner.one_line()
        def at_either_end(wildcards):
            ends = (wildcards.site, PLANNER.source(kind, wildcards.run, wildcards.site))
            return reach.connections(site) if site.name in ends else 0

        return at_either_end

    far = [site for site in SETTINGS.sites.values() if reach.is_far(SETTINGS, site)]
    return {reach.resource(site): to(site) for site in far}


def one_connection(everywhere=False):
    """Resources of a job that reads at its site, or at all that have copies, over one connection to each."""

    def to(site):
        return lambda wildcards: int(everywhere or wildcards.site == site.name)

    far = [site for site in SETTINGS.sites.values() if reach.is_far(SETTINGS, site)]
    return {reach.resource(site): to(site) for site in far}


@planner.one_line()
def everything_actionable(wildcards):
    return PLANNER.all()


@planner.one_line()
def copy_in_rundb(wildcards):
    """Nothing where the runs database knows a good copy; else a file nothing makes: then it is copied."""
    if PLANNER.may_register(wildcards.run, wildcards.site):
        return []
    return f"{wildcards.site}/{wildcards.run}.raw.unknown"


@planner.one_line()
def source_of_raw(wildcards):
    """Receipt of the copy at the source; a file nothing makes where there is a copy to take note of."""
    if PLANNER.may_register(wildcards.run, wildcards.site):
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
    return PLANNER.always_new(wildcards.run, wildcards.site)


@planner.one_line()
def nothing_against_version(wildcards):
    """No file; a version that there is not ends the workflow, too."""
    PLANNER.processor(wildcards.site, wildcards.version)
    PLANNER.processing(wildcards.run, wildcards.site)
    return []


@planner.one_line()
def nothing_against_minitrees(wildcards):
    PLANNER.minitrees(wildcards.run, wildcards.site)
    return PLANNER.always_new(wildcards.run, wildcards.site)


@planner.one_line()
def processed_file(wildcards):
    """The processed file itself, where it stands and no job makes it; what it was made of may have gone.

    Otherwise its receipt, and where that is wanted the proof that it can be read again.
    """
    site, run = wildcards.site, wildcards.run
    if there := PLANNER.product(run, site):
        return there
    proof = [f"{site}/{run}.processed.checksum"] if SETTINGS.verify else []
    return [f"{site}/{run}.processed.done", *proof]


def label_of_run(wildcards):
    return {"run": wildcards.run}


@planner.one_line()
def pages_of_runs(wildcards):
    here = SETTINGS.here.name
    return [f"{here}/{run}.report.html" for run in PLANNER.processed_here()]


@planner.one_line()
def parts_of_run(wildcards):
    parts = PLANNER.parts(wildcards.run, wildcards.site)
    names = [f"{number:04d}-of-{parts:04d}" for number in range(1, parts + 1)]
    return [f"parts/{wildcards.site}/{wildcards.run}.{name}.root" for name in names]


@planner.one_line()
def name_of_processor(wildcards):
    return PLANNER.processor(wildcards.site, wildcards.get("version")).name


def reservation(part, name):
    """A function that says what a job for a run, or a part of one, reserves: cores, memory or time."""

    @planner.one_line()
    def reserve(wildcards, attempt):
        run, site, version = wildcards.run, wildcards.site, wildcards.get("version")
        return getattr(PLANNER.reservation(run, site, attempt, version=version, part=part), name)

    return reserve


cores_for_processing = reservation(part=False, name="cores")
memory_for_processing = reservation(part=False, name="memory_mb")
time_for_processing = reservation(part=False, name="runtime")
cores_for_part = reservation(part=True, name="cores")
memory_for_part = reservation(part=True, name="memory_mb")
time_for_part = reservation(part=True, name="runtime")


def memory_for_minitrees(wildcards, attempt):
    return minitrees.resources(attempt).memory_mb


def time_for_minitrees(wildcards, attempt):
    return minitrees.resources(attempt).runtime


def this_attempt(wildcards, attempt):
    return attempt


@planner.one_line()
def everything_to_remove(wildcards):
    return UPKEEP.purge()


@planner.one_line()
def nothing_against_removal(wildcards):
    """No file; a copy whose removal the evidence does not allow ends the workflow with the reason."""
    removal_in_words(wildcards)
    return []


@planner.one_line()
def removal_in_words(wildcards):
    version = wildcards.get("version")
    stage = f"pax_{version}.purged" if version else "raw.purged"
    return UPKEEP.removal(wildcards.run, wildcards.site, stage)


@planner.one_line()
def nothing_but_a_list_to_read(wildcards):
    return UPKEEP.scrub()


def in_words(kind):
    """A function that says what copying a kind of data of a run means, for messages."""

    @planner.one_line()
    def say(wildcards):
        facts = PLANNER.facts(wildcards.run)
        return describe(facts, kind, wildcards.site, SETTINGS)

    return say
