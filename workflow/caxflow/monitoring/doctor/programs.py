"""The program of the processor: whether it can be started."""

import shutil
from collections.abc import Iterator

from caxflow.config import Settings
from caxflow.monitoring.doctor.finding import BAD, GOOD, Finding
from caxflow.processing.processors import Processor, by_place


def examine(settings: Settings) -> Iterator[Finding]:
    """Check the processor of this site."""
    here = settings.here
    if here.processed is None or not here.processed.make:
        return
    processor = settings.processor(here)
    program, where = _program(processor)
    if processor.inherits:
        where += f"; its command inherits {processor.inherits}, which null takes out"
    if program is None:
        yield Finding("processor", GOOD, f"{processor.name} is the embedded one")
    elif shutil.which(program) is None:
        mend = f"install {program}, or mend processors.{processor.name}: {by_place(processor.places)}"
        yield Finding("processor", BAD, f"{processor.name}: {program} is not on the PATH{where}", mend)
    else:
        yield Finding("processor", GOOD, f"{processor.name}: {program} is there{where}")


def _program(processor: Processor) -> tuple[str | None, str]:
    """Return the program that must be on our PATH for a processor; what it starts may be elsewhere."""
    if processor.template is None:
        return None, ""
    environment = processor.environment
    if environment.setup or environment.module:
        return "bash", "; what its environment has is not looked at"
    if environment.conda:
        return "conda", f"; its environment {environment.conda} is not looked at"
    if environment.container:
        return "apptainer", f"; its image {environment.container} is not looked at"
    return processor.template.words[0], ""
