"""Ctrl-C, twice: the second one is answered, and interrupts nothing."""

import logging
import os
import signal

from caxflow.planning.interrupts import Once


def test_a_second_interrupt_is_answered(tmp_path, capfd):
    before = signal.getsignal(signal.SIGINT)
    ending = "Terminating processes on user request, this might take some time."
    try:
        for text in ("Building DAG of jobs...", ending):
            assert signal.getsignal(signal.SIGINT) is before
            record = logging.LogRecord("snakemake", logging.INFO, "", 0, text, (), None)
            assert Once(tmp_path).filter(record)
        assert record.getMessage() == "caxflow: interrupted; the jobs at work are being ended"
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert f"kill -9 {os.getpid()}" in capfd.readouterr().err
