"""What Snakemake reports, before any of its handlers shows or keeps it."""

import logging

from caxflow import legible


class Legible:
    """A filter for Snakemake's logger, after all others: foreign text in what it reports loses its effect."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Make the record's texts printable and short; it is shown in any case."""
        if record.msg is not None:
            record.msg, record.args = legible.lines(record.getMessage()), ()
        for facts in (vars(record), *getattr(record, "job_error_info", ())):
            facts |= {name: legible.data(each) for name, each in facts.items() if type(each) in (str, dict)}
        return True
