"""What people look at and are told by, as far as it is configured: page, metrics, webhook, mail."""

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

from caxflow import owners
from caxflow.config import Settings
from caxflow.monitoring import delivery
from caxflow.monitoring.doctor import folders
from caxflow.monitoring.doctor.finding import BAD, DOUBTFUL, GOOD, Finding

_PAGE = "runs page"


def checks(settings: Settings) -> Iterator[tuple[str, Callable[[], Iterator[Finding]]]]:
    """Yield what each check is about, and the check."""
    if settings.page:
        yield _PAGE, lambda: _kept_in(_PAGE, Path(settings.page.folder))
    if settings.metrics:
        yield "metrics", lambda: _kept_in("metrics", Path(settings.metrics).parent)
    if settings.notify and settings.notify.webhook:
        yield "webhook", lambda: _would_tell("webhook", delivery.try_webhook)
    if settings.notify and (mail := settings.notify.mail):
        yield "mail", lambda: _would_tell("mail", lambda: delivery.try_mail(mail))


def _kept_in(about: str, folder: Path) -> Iterator[Finding]:
    if not folder.is_dir():
        said = f"{folder} is no folder yet; it is made when it is needed"
        yield Finding(about, DOUBTFUL, said, f"mkdir -p {shlex.quote(str(folder))}")
        return
    if about == _PAGE and (others := owners.shared(folder.stat())):
        said = f"{folder} {others}: what is shown there could be theirs"
        yield Finding(about, BAD, said, f"chmod -R go-w {shlex.quote(str(folder))}, or name another folder")
        return
    yield Finding(about, GOOD, f"{folder} {folders.written(str(folder))[0]}")


def _would_tell(about: str, attempt: Callable[[], None]) -> Iterator[Finding]:
    attempt()
    yield Finding(about, GOOD, "would take a message; none was sent")
