"""The ways by which people are told: a webhook in Slack's format, and e-mail.

Addresses of webhooks and passwords are secrets: they come from the environment, and get into no message.
"""

import contextlib
import json
import smtplib
from collections.abc import Iterator, Mapping

from caxflow import credentials, legible, network
from caxflow.config import Mail, Notify
from caxflow.errors import CaxflowError

_SUBJECT = 200  # characters
_CHAT = 3500  # characters; of longer messages Slack makes several, which would break the block
WEBHOOK, USER, PASSWORD = credentials.WEBHOOK, credentials.MAIL_USER, credentials.MAIL_PASSWORD


def deliver(options: Notify, subject: str, text: str) -> list[str]:
    """Send a message by every way that is configured; return what went wrong with some of them.

    Raises
    ------
    CaxflowError
        If all of them failed.
    """
    failed: list[CaxflowError] = []
    if options.webhook:
        with _noting(failed):
            _post(_chat(f"{subject}\n{text}"))
    if options.mail:
        with _noting(failed):
            _mail(options.mail, subject, text)
    if failed and len(failed) == bool(options.webhook) + bool(options.mail):
        raise failed[0]
    return [str(error) for error in failed]


def try_webhook() -> None:
    """Ask the webhook without a message, which it refuses as one that has none; nobody is told.

    Raises
    ------
    CaxflowError
        If its address is not known, or it would take no message either.
    """
    _post({}, refusals=(400,))


def try_mail(options: Mail) -> None:
    """Ask the mail server whether it would take a message for everybody; none is sent.

    Raises
    ------
    CaxflowError
        If it would not.
    """
    with _server(options) as server:
        server.ehlo_or_helo_if_needed()
        for code, said in (server.mail(options.sender), *map(server.rcpt, options.to)):
            if code >= 400:
                raise smtplib.SMTPResponseException(code, said)
        server.rset()


@contextlib.contextmanager
def _noting(failed: list[CaxflowError]) -> Iterator[None]:
    try:
        yield
    except CaxflowError as error:
        failed.append(error)


def _post(content: Mapping[str, str | bool], refusals: tuple[int, ...] = ()) -> None:
    """Post to the webhook; `refusals` are answers that are expected."""
    import http.client
    import urllib.error
    import urllib.request

    address = credentials.get(WEBHOOK)
    if not address:
        raise CaxflowError(
            "the webhook's address is not known", f"export {WEBHOOK}=https://…, as Slack gives it"
        )
    network.check_web(address, f"the webhook's address, {WEBHOOK},")
    body = json.dumps(content).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})  # noqa: S310
    try:
        with network.opener(address).open(request, timeout=20):
            pass
    except urllib.error.HTTPError as error:
        error.close()
        if error.code not in refusals:
            # The address is the secret: it must not get into a message.
            raise CaxflowError(f"the webhook answers {error.code}", f"check {WEBHOOK}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise CaxflowError(f"the webhook does not answer: {reason}", "it is tried again later") from None


def _mail(options: Mail, subject: str, text: str) -> None:
    from email.message import EmailMessage

    with _server(options) as server:
        mail = EmailMessage()
        mail["From"], mail["To"] = options.sender, ", ".join(options.to)
        mail["Subject"] = legible.line(subject, _SUBJECT)
        mail.set_content(legible.lines(text))
        server.send_message(mail)


@contextlib.contextmanager
def _server(options: Mail) -> Iterator[smtplib.SMTP]:
    """A mail server that knows who we are; what goes wrong with it is one line."""
    import ssl

    port = options.port or {"tls": 465, "starttls": 587, "none": 25}[options.tls]
    secure = ssl.create_default_context()
    user, password = credentials.get(USER), credentials.get(PASSWORD)
    if user and password and options.tls == "none" and not network.is_here(options.server):
        raise CaxflowError(
            f"mail by {options.server}: with tls: none the password would be sent readably",
            f"set notify.mail.tls to starttls or tls in {options.place}, or take {PASSWORD} away",
        )
    try:
        if options.tls == "tls":
            server = smtplib.SMTP_SSL(options.server, port, timeout=20, context=secure)
        else:
            server = smtplib.SMTP(options.server, port, timeout=20)
        with server:
            if options.tls == "starttls":
                server.starttls(context=secure)
            if user and password:
                server.login(user, password)
            yield server
    except (OSError, ValueError, smtplib.SMTPException) as error:
        code = getattr(error, "smtp_code", None)
        raise CaxflowError(
            f"mail by {options.server}:{port} failed: {type(error).__name__}{f' {code}' if code else ''}",
            f"mend notify.mail in {options.place}, or {USER} and {PASSWORD}",
        ) from None


def _chat(text: str) -> dict[str, str | bool]:
    """Return a message in which nothing of a text is a link, a call to everybody, or markup.

    All of it is in one block of code, which means the same to Slack and to others that take its format; a
    back quote would end that.
    """
    text = legible.short(legible.lines(text), _CHAT).replace("`", "'")
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    quiet = dict.fromkeys(("link_names", "unfurl_links", "unfurl_media"), False)
    return {"text": f"```\n{text}\n```", "parse": "none"} | quiet
