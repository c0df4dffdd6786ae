"""The ways by which people are told, and real servers at their ends."""

import contextlib
import email
import email.policy
import http.server
import json
import socketserver
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

from caxflow.config import Mail, Notify
from caxflow.errors import CaxflowError
from caxflow.monitoring import delivery


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
    monkeypatch.setenv(delivery.WEBHOOK, webhook.address)
    assert delivery.deliver(Notify(webhook=True), "two things", "• <!channel> & <https://evil|x>") == []
    (posted,) = webhook.posted
    assert posted["text"] == "```\ntwo things\n• &lt;!channel&gt; &amp; &lt;https://evil|x&gt;\n```"
    assert posted["parse"] == "none"
    assert not any(posted[key] for key in ("link_names", "unfurl_links", "unfurl_media"))


def test_chat_and_mail_show_foreign_text_as_it_is(webhook, mailbox, monkeypatch):
    monkeypatch.setenv(delivery.WEBHOOK, webhook.address)
    mail = Mail(("a@x.org",), "caxflow@x.org", "127.0.0.1", mailbox.port, "none")
    nasty = "*a* ```\n<!here> `b` [c](http://evil) \x1b[31m\u202e\ud800" + "\u0301" * 99
    assert delivery.deliver(Notify(webhook=True, mail=mail), f"1 {nasty}", f"• {nasty} {'x' * 99_999}") == []
    text = webhook.posted[0]["text"]
    assert text.startswith("```\n")
    assert text.endswith("\n```")
    assert "`" not in text[3:-3]  # which would end the block
    assert not set(text) & {"<", ">", "\x1b", "\u202e", "\ud800"}
    assert "characters are left out" in text
    assert len(text) < 4000
    told = email.message_from_string(mailbox.mails[0], policy=email.policy.default)
    assert set(told) >= {"From", "To", "Subject"}
    assert len(told["Subject"]) < 300
    body = told.get_content()
    assert r"\x1b[31m\u202e\ud800" in body
    assert len(body) < 20_000
    assert told.get_content_type() == "text/plain"


@pytest.mark.parametrize("answer", [b"what?\r\n\r\n", b"", b"HTTP/1.1 " + b"x" * 70_000])
def test_a_server_that_is_none_is_one_line(answer, monkeypatch):
    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            # A browser speaks first, a mail program waits for the server.
            self.request.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                self.request.recv(65536)
            self.request.sendall(answer)

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        port = server.server_address[1]
        monkeypatch.setenv(delivery.WEBHOOK, f"http://127.0.0.1:{port}/x")
        mail = Mail(("a@x.org",), "caxflow@x.org", "127.0.0.1", port, "none")
        for options in (Notify(webhook=True), Notify(mail=mail)):
            with pytest.raises(CaxflowError):
                delivery.deliver(options, "one thing", "text")
        server.shutdown()


def test_an_address_that_is_none_is_one_line():
    mail = Mail(("a@x.org\nBcc: b@x.org",), "caxflow@x.org", "127.0.0.1", 1, "none")
    with pytest.raises(CaxflowError, match=r"notify\.mail"):
        delivery.deliver(Notify(mail=mail), "one thing", "text")


def test_webhooks_address_stays_secret(webhook, monkeypatch):
    monkeypatch.setenv(delivery.WEBHOOK, webhook.address)
    webhook.handler.status = 403
    with pytest.raises(CaxflowError, match="the webhook answers 403") as raised:
        delivery.deliver(Notify(webhook=True), "s", "t")
    assert "SECRET" not in str(raised.value)
    for address in ("", "http://10.0.0.1/SECRET", "file:///etc/passwd"):
        monkeypatch.setenv(delivery.WEBHOOK, address)
        with pytest.raises(CaxflowError, match=delivery.WEBHOOK):
            delivery.deliver(Notify(webhook=True), "s", "t")


@pytest.fixture
def mailbox():
    """A mail server that speaks just enough SMTP, and keeps what it gets."""
    mails = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            self.wfile.write(b"220 here\r\n")
            while line := self.rfile.readline().strip():
                if b"nobody" in line:
                    self.wfile.write(b"550 no such user\r\n")
                    continue
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
    assert delivery.deliver(Notify(mail=mail), "one thing", "• the disk is full: \udce9.zip") == []
    assert "To: a@x.org, b@x.org" in mailbox.mails[0]
    assert "Subject: one thing" in mailbox.mails[0]


def test_one_way_that_fails_is_said_and_does_not_stop_the_other(mailbox, monkeypatch):
    monkeypatch.delenv(delivery.WEBHOOK, raising=False)
    mail = Mail(("a@x.org",), "caxflow@x.org", "127.0.0.1", mailbox.port, "none")
    failed = delivery.deliver(Notify(webhook=True, mail=mail), "one thing", "• text")
    assert len(failed) == 1
    assert delivery.WEBHOOK in failed[0]
    assert len(mailbox.mails) == 1


def test_a_webhook_is_tried_without_a_message(webhook, monkeypatch):
    monkeypatch.setenv(delivery.WEBHOOK, webhook.address)
    webhook.handler.status = 400  # what Slack says to a message without a text
    delivery.try_webhook()
    assert webhook.posted == [{}]
    webhook.handler.status = 404
    with pytest.raises(CaxflowError, match="the webhook answers 404"):
        delivery.try_webhook()


def test_a_mail_server_is_tried_without_a_message(mailbox):
    mail = Mail(("a@x.org",), "caxflow@x.org", "127.0.0.1", mailbox.port, "none")
    delivery.try_mail(mail)
    with pytest.raises(CaxflowError, match="failed: SMTPResponseException 550"):
        delivery.try_mail(replace(mail, to=("a@x.org", "nobody@x.org")))
    assert mailbox.mails == []
