"""What people look at and are told by, as far as it is configured: page, metrics, webhook, mail."""

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

from caxflow.config import Settings
from caxflow.monitoring import delivery
from caxflow.monitoring.doctor import folders
from caxflow.monitoring.doctor.finding import DOUBTFUL, GOOD, Finding


def checks(settings: Settings) -> Iterator[tuple[str, Callable[[], Iterator[Finding]]]]:
    """Yield what each check is about, and the check."""
    if settings.page:
        yield "runs page", lambda: _kept_in("runs page", Path(settings.page.folder))
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
    yield Finding(about, GOOD, f"{folder} {folders.written(str(folder))[0]}")


def _would_tell(about: str, attempt: Callable[[], None]) -> Iterator[Finding]:
    attempt()
    yield Finding(about, GOOD, "would take a message; none was sent")
