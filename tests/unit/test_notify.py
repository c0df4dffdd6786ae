"""Notifications: what needs a human is told, once, grouped, and by real servers."""

import datetime
import http.server
import json
import socketserver
import threading
from types import SimpleNamespace

import pytest

from caxflow import receipts
from caxflow.config import Mail, Notify
from caxflow.errors import CaxflowError
from caxflow.monitoring import notify
from caxflow.targets import Run, Target
from caxflow.workdir import journal

NOW = datetime.datetime(2017, 3, 1, 12, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)


def settings(**options):
    return SimpleNamespace(
        here=SimpleNamespace(name="midway"),
        attempts=2,
        notify=Notify(**{"every": 60, "remind": 24} | options),
    )


@pytest.fixture
def sent():
    return []


@pytest.fixture
def tell(tmp_path, sent):
    def tell(now=NOW, problems=(), away="", **options):
        def send(_, subject, text):
            sent.append((subject, text))
            return []

        notify.tell(settings(**options), tmp_path, problems=list(problems), away=away, now=now, send=send)

    return tell


def fail(work_dir, run, reason, times=2):
    for _ in range(times):
        journal.fail(work_dir, Target("midway", Run.parse(run), "raw.done"), reason.format(run=run))


def test_only_what_failed_too_often(tmp_path, tell, sent):
    fail(tmp_path, "160315_1432", "the disk is full", times=1)
    tell()
    assert sent == []
    fail(tmp_path, "160315_1432", "the disk is full", times=1)
    tell()
    subject, text = sent[0]
    assert subject == "caxflow at midway: 1 thing for a human"
    assert text == "• raw.done at midway failed 2 times: the disk is full (160315_1432)"


def test_equal_reasons_make_one_line(tmp_path, tell, sent):
    for minute in range(12):
        fail(tmp_path, f"160315_14{minute:02d}", "{run}: the disk is full at /data/raw/{run}")
    tell()
    lines = sent[0][1].splitlines()
    assert len(lines) == 1
    assert "the disk is full at /data/raw/RUN" in lines[0]
    assert lines[0].endswith("160315_1407 and 4 more)")


def test_told_once_and_again_after_a_day(tmp_path, tell, sent):
    fail(tmp_path, "160315_1432", "the disk is full")
    for hours in (0, 2, 23):
        tell(NOW + hours * HOUR)
    assert len(sent) == 1
    tell(NOW + 25 * HOUR)
    assert len(sent) == 2


def test_at_most_one_message_an_hour_and_nothing_is_lost(tmp_path, tell, sent):
    fail(tmp_path, "160315_1432", "the disk is full")
    tell()
    fail(tmp_path, "160315_1433", "the link is down")
    tell(NOW + HOUR / 2)
    assert len(sent) == 1
    tell(NOW + HOUR)
    assert len(sent) == 2
    assert "the link is down" in sent[1][1]
    assert "disk" not in sent[1][1]


def test_what_came_back_is_told_anew(tmp_path, tell, sent):
    fail(tmp_path, "160315_1432", "the disk is full")
    tell()
    journal.succeed(tmp_path, Target("midway", Run("160315_1432"), "raw.done"))
    tell(NOW + 2 * HOUR)
    fail(tmp_path, "160315_1432", "the disk is full")
    tell(NOW + 4 * HOUR)
    assert len(sent) == 2


def test_a_short_absence_of_the_database_is_no_alarm(tell, sent):
    tell(away="it does not answer")
    tell(NOW + HOUR / 2, away="it does not answer")
    assert sent == []
    tell(NOW + HOUR, away="it does not answer")
    assert "the runs database is away since 2017-03-01 12:00 UTC" in sent[0][1]
    tell(NOW + 3 * HOUR)
    tell(NOW + 4 * HOUR, away="it does not answer")
    assert len(sent) == 1


def test_problems_of_the_plan_and_of_the_sync(tmp_path, tell, sent):
    receipts.write(tmp_path / ".caxflow" / "plan.json", {"problems": ["160315_1432: two entries"]})
    tell(problems=["receipt x is damaged"])
    assert "160315_1432: two entries" in sent[0][1]
    assert "receipt x is damaged" in sent[0][1]


def test_what_could_not_be_sent_is_tried_again(tmp_path):
    fail(tmp_path, "160315_1432", "the disk is full")
    tried = []

    def refuse(*message):
        tried.append(message)
        raise CaxflowError("the webhook answers 500")

    for _ in range(2):
        with pytest.raises(CaxflowError):
            notify.tell(settings(), tmp_path, problems=[], away="", now=NOW, send=refuse)
    assert len(tried) == 2


@pytest.fixture
def webhook():
    """A web server that keeps what is posted, and answers with `status`."""
    posted = []

    class Handler(http.server.BaseHTTPRequestHandler):
        status = 200

        def do_POST(self):
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(Handler.status)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield SimpleNamespace(
            address=f"http://127.0.0.1:{server.server_port}/services/SECRET", posted=posted, handler=Handler
        )
        server.shutdown()


def test_webhook_gets_slacks_format(webhook, monkeypatch):
    monkeypatch.setenv(notify.WEBHOOK, webhook.address)
    assert notify.deliver(Notify(webhook=True), "two things", "• <!channel> & <https://evil|x>") == []
    assert webhook.posted == [{"text": "*two things*\n• &lt;!channel&gt; &amp; &lt;https://evil|x&gt;"}]


@pytest.mark.parametrize("answer", [b"what?\r\n\r\n", b"", b"HTTP/1.1 " + b"x" * 70_000])
def test_a_server_that_is_none_is_one_line(answer, monkeypatch):
    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(65536)
            self.request.sendall(answer)

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        port = server.server_address[1]
        monkeypatch.setenv(notify.WEBHOOK, f"http://127.0.0.1:{port}/x")
        mail = Mail(("a@x.org",), "caxflow@x.org", "127.0.0.1", port, "none")
        for options in (Notify(webhook=True), Notify(mail=mail)):
            with pytest.raises(CaxflowError):
                notify.deliver(options, "one thing", "text")
        server.shutdown()


def test_an_address_that_is_none_is_one_line():
    mail = Mail(("a@x.org\nBcc: b@x.org",), "caxflow@x.org", "127.0.0.1", 1, "none")
    with pytest.raises(CaxflowError, match=r"notify\.mail"):
        notify.deliver(Notify(mail=mail), "one thing", "text")


def test_webhooks_address_stays_secret(webhook, monkeypatch):
    monkeypatch.setenv(notify.WEBHOOK, webhook.address)
    webhook.handler.status = 403
    with pytest.raises(CaxflowError, match="the webhook answers 403") as raised:
        notify.deliver(Notify(webhook=True), "s", "t")
    assert "SECRET" not in str(raised.value)
    for address in ("", "http://10.0.0.1/SECRET", "file:///etc/passwd"):
        monkeypatch.setenv(notify.WEBHOOK, address)
        with pytest.raises(CaxflowError, match=notify.WEBHOOK):
            notify.deliver(Notify(webhook=True), "s", "t")


@pytest.fixture
def mailbox():
    """A mail server that speaks just enough SMTP, and keeps what it gets."""
    mails = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            self.wfile.write(b"220 here\r\n")
            while line := self.rfile.readline().strip():
                if line.upper() == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    mail = []
                    while (text := self.rfile.readline().rstrip()) != b".":
                        mail.append(text.decode())
                    mails.append("\n".join(mail))
                self.wfile.write(b"221 bye\r\n" if line.upper() == b"QUIT" else b"250 ok\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield SimpleNamespace(port=server.server_address[1], mails=mails)
        server.shutdown()


def test_mail_is_delivered(mailbox):
    mail = Mail(("a@x.org", "b@x.org"), "caxflow@x.org", "127.0.0.1", mailbox.port, "none")
    # A file's name need not be text.
    assert notify.deliver(Notify(mail=mail), "one thing", "• the disk is full: \udce9.zip") == []
    assert "To: a@x.org, b@x.org" in mailbox.mails[0]
    assert "Subject: one thing" in mailbox.mails[0]


def test_one_way_that_fails_is_said_and_does_not_stop_the_other(mailbox, monkeypatch):
    monkeypatch.delenv(notify.WEBHOOK, raising=False)
    mail = Mail(("a@x.org",), "caxflow@x.org", "127.0.0.1", mailbox.port, "none")
    failed = notify.deliver(Notify(webhook=True, mail=mail), "one thing", "• text")
    assert len(failed) == 1
    assert notify.WEBHOOK in failed[0]
    assert len(mailbox.mails) == 1
