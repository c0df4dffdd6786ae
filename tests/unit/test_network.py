"""A key or a password does not travel readably to another machine, by whatever way."""

import subprocess

import pytest

from caxflow import network
from caxflow.conditions import slowcontrol
from caxflow.config import Mail, Notify
from caxflow.demo.database import DatabaseServer
from caxflow.errors import CaxflowError
from caxflow.monitoring import delivery, doctor
from caxflow.rundb import RunsDB
from operators import configured

AWAY = [
    "10.0.0.1",
    "sc.example",
    "localhost.example",
    "127.0.0.1.example",
    "[2001:db8::1]",
    "0x7f000001.example",
]
HERE = ["127.0.0.1", "127.3.2.1", "localhost", "LOCALHOST", "[::1]", "[::ffff:127.0.0.1]"]


@pytest.mark.parametrize("host", AWAY)
def test_a_readable_address_elsewhere_is_refused(host, monkeypatch):
    with pytest.raises(CaxflowError, match=r"begins with http://.* -> .*https://"):
        slowcontrol.Service(f"http://{host}:8080/GetSCData", "sc")
    slowcontrol.Service(f"https://{host}/GetSCData", "sc")
    monkeypatch.setenv(delivery.WEBHOOK, f"http://{host}/services/SESAME")
    with pytest.raises(CaxflowError, match=r"CAXFLOW_WEBHOOK.*http://.* -> ") as caught:
        delivery.deliver(Notify(webhook=True), "s", "t")
    assert "SESAME" not in str(caught.value)


@pytest.mark.parametrize("host", HERE)
def test_what_stays_on_this_machine_may_be_readable(host):
    assert network.is_here(host)
    slowcontrol.Service(f"http://{host}:8080/GetSCData", "sc")


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/SESAME",
        "https://",
        "hooks.example/SESAME",
        "https://me:SESAME@hooks.example/x",
        "http://127.0.0.1:80@hooks.example/SESAME",
        "https://hooks.example:SESAME/",
        "https://[SESAME/",
    ],
)
def test_what_is_no_web_address_is_not_said(address, monkeypatch):
    monkeypatch.setenv(delivery.WEBHOOK, address)
    with pytest.raises(CaxflowError, match="is not a web address") as caught:
        delivery.deliver(Notify(webhook=True), "s", "t")
    assert "SESAME" not in str(caught.value)


@pytest.mark.parametrize("host", AWAY)
def test_a_login_by_mail_is_not_readable(host, monkeypatch):
    monkeypatch.setenv(delivery.USER, "caxflow")
    monkeypatch.setenv(delivery.PASSWORD, "sesame")
    mail = Mail(("a@x.org",), "caxflow@x.org", host, 1, "none", "mine.yaml")
    for attempt in (delivery.try_mail, lambda mail: delivery.deliver(Notify(mail=mail), "s", "t")):
        with pytest.raises(
            CaxflowError, match=r"sent readably -> set notify\.mail\.tls .*mine\.yaml"
        ) as caught:
            attempt(mail)
        assert "sesame" not in str(caught.value)


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory, require):
    """A database that is reached by TLS alone, and the file of its authority."""
    require("openssl")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "2", "-subj", "/CN=runs", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", folder / "key.pem", "-out", folder / "ca.pem"),
        ],
        check=True,
        capture_output=True,
    )
    said = f'[tls]\ncert_file = "{folder}/ca.pem"\nkey_file = "{folder}/key.pem"\n'
    (folder / "empty.toml").write_text(said)
    with DatabaseServer(folder, durable=False) as server:
        yield server.uri, folder / "ca.pem"


def test_the_database_is_reached_by_tls(encrypted, tmp_path):
    uri, authority = encrypted
    settings = configured(tmp_path, rundb={"uri": f"{uri}/?tls=true&tlsCAFile={authority}", "timeout": 20})
    with RunsDB(settings.rundb) as database:
        assert database.missing_indexes()
    for options, why in (("", "127.0.0.1"), ("?tls=true", "certificate verify failed")):
        settings = configured(tmp_path, rundb={"uri": f"{uri}/{options}", "timeout": 0.5})
        with RunsDB(settings.rundb) as database, pytest.raises(CaxflowError, match=why) as caught:
            database.now()
        assert "\n" not in str(caught.value)


def test_doctor_tells_of_an_address_without_tls(tmp_path):
    settings = configured(tmp_path, rundb={"uri": "mongodb://me@192.0.2.1:1/run", "timeout": 0.1})
    (said,) = [one for one in doctor.examine(settings, []) if "TLS" in one.said]
    assert said.verdict == doctor.BAD
    assert "mongodb://192.0.2.1:1/run is reached without TLS" in said.said
    assert "tls=true" in said.mend
