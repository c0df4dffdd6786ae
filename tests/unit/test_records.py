"""What Snakemake reports has no effect, whichever handler shows it."""

import io
import logging

import pytest
from snakemake.logging import DefaultFormatter
from snakemake_interface_logger_plugins.common import LogEvent

import nasty
from caxflow import legible
from caxflow.monitoring import records


def _raise(_):
    raise  # noqa: PLE0704 (what the handler is about to report)


def reported(message, **facts):
    """What Snakemake's own formatter makes of a report."""
    stream, logger = io.StringIO(), logging.Logger("a test's")
    handler = logging.StreamHandler(stream)
    handler.handleError = _raise
    handler.setFormatter(DefaultFormatter(quiet=set(), show_failed_logs=False))
    logger.addHandler(handler)
    logger.addFilter(records.Legible())
    logger.error(message, extra=facts)
    return stream.getvalue()


@pytest.mark.parametrize("text", nasty.TEXTS, ids=nasty.called)
def test_reports_are_inert(text):
    job = {"jobid": 1, "rule_name": "copy_raw", "rule_msg": text, "input": [], "output": [], "log": []}
    job |= {"wildcards": {}, "benchmark": None, "threads": 1, "priority": 0, "resources": {}, "local": True}
    job |= {"shellcmd": text, "reason": text, "indent": False, "is_checkpoint": False, "is_handover": False}
    failed = job | {"conda_env": text, "aux_logs": [], "aux": {"external_jobid": text}}
    both = failed | {"msg": text}
    said = [
        reported(f"WorkflowError: {text}"),
        reported("x", event=LogEvent.JOB_INFO, **job),
        reported("x", event=LogEvent.JOB_ERROR, **failed),
        reported("x", event=LogEvent.GROUP_ERROR, groupid=text, aux_logs=[], job_error_info=[both]),
        reported("x", event=LogEvent.SHELLCMD, shellcmd=text, indent=False),
    ]
    for each in said:
        assert nasty.shown_effects(each) == []
    shown = legible.lines(text)[:50].split("\n")[0]
    assert all(shown in each for each in said[:3])


def test_percent_signs_of_others_are_none_of_ours():
    assert reported("100 % of %s") == "100 % of %s\n"
