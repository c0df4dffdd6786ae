"""Providers of the cathode voltage: a file, ranges, a web service; no value is an answer."""

import datetime
import http.server
import json
import threading
import urllib.parse

import pytest

from caxflow.conditions import slowcontrol
from caxflow.errors import CaxflowError

START = datetime.datetime(2016, 11, 1, 16, 0, 0)
END = datetime.datetime(2016, 11, 1, 17, 0, 0)
RUN = ("161101_1600", 4242, START, END)


def write(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("by_number.csv", "number,kv\n4241,11\n4242,12.5\n"),
        ("by_name.csv", "name,kv,remark\n161101_1600,12.5,stable\n"),
        (
            "by_time.csv",
            "time,kv\n2016-11-01 15:59,99\n2016-11-01 16:00,12\n2016-11-01T18:00+01:00,13\n2016-11-02,99\n",
        ),
        ("by_number.json", '[{"number": 4242, "kv": 12.5}]'),
        ("by_number.csv", "number,kv\n4241.0,11\n 4242.0 , 12.5 \n"),
        ("by_time.json", '[{"time": 1478016060.0, "kv": "12.5"}]'),
        ("by_time.json", '[{"time": "2016-11-01T16:30:00Z", "kv": 12.5}]'),
    ],
)
def test_a_table_knows_a_run_by_number_name_or_time(tmp_path, name, text):
    table = slowcontrol.Table(write(tmp_path, name, text))
    assert table(*RUN) == 12.5
    later = START + datetime.timedelta(days=9)
    assert table("161110_1600", 4300, later, later) is None


def test_an_empty_table_knows_nothing(tmp_path):
    assert slowcontrol.Table(write(tmp_path, "empty.csv", ""))(*RUN) is None


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "number,name,kv\n1,x,2\n", "one of name, number and time"),
        ("a.csv", "run,kv\n1,2\n", "one of name, number and time"),
        ("a.csv", "number,kv\n1,2\nx,2\n", "row 2: number is 'x'"),
        ("a.csv", "time,kv\nyesterday,2\n", "row 1: time is 'yesterday'"),
        ("a.csv", "number,kv\n1\n", "row 1: the cathode voltage is None"),
        ("a.csv", "number,kv\n1,nan\n", "row 1: the cathode voltage is 'nan'"),
        ("a.json", "{", "a.json"),
        ("a.json", '{"number": 1}', "not a list of objects"),
        ("a.json", '[{"number": 1, "kv": true}]', "row 1: the cathode voltage is True"),
    ],
)
def test_a_bad_table_is_named_with_its_row(tmp_path, name, text, message):
    with pytest.raises(CaxflowError) as caught:
        slowcontrol.Table(write(tmp_path, name, text))
    assert message in str(caught.value)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(CaxflowError, match=r"gone\.csv cannot be read: No such file"):
        slowcontrol.Table(tmp_path / "gone.csv")


def test_ranges():
    ranges = slowcontrol.Ranges(
        [{"min": 0, "max": 4242, "value": 15}, {"min": 4242, "max": 4243, "value": 12}]
    )
    assert ranges(*RUN) == 12.0
    assert ranges("161101_1700", 4243, START, END) is None
    with pytest.raises(CaxflowError, match="cathode voltage is 'high'"):
        slowcontrol.Ranges([{"min": 0, "max": 9999, "value": "high"}])(*RUN)


class Historian(http.server.BaseHTTPRequestHandler):
    """The web service: remembers what it was asked, answers what the test told it to."""

    def do_GET(self):
        self.server.asked.append(dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query)))
        status, body = self.server.answer
        if status is None:
            self.server.released.wait(30)
            return
        self.send_response(status)
        if status == 302:
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
        self.end_headers()
        self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def historian(monkeypatch):
    monkeypatch.setenv(slowcontrol.KEY_VARIABLE, "sesame")
    for proxy in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Historian)
    server.daemon_threads = True
    server.asked, server.answer, server.released = [], (200, []), threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


def service(server, **options):
    return slowcontrol.Service(f"http://127.0.0.1:{server.server_port}/GetSCData", "slowcontrol", **options)


def test_the_service_gives_the_mean_of_the_samples(historian):
    samples = [{"value": 12.0, "timestampseconds": 1}, {"value": 13.0, "timestampseconds": 2}, "a remark"]
    historian.answer = (200, samples)
    assert service(historian)(*RUN) == 12.5
    assert historian.asked == [
        {
            "name": "XE1T.GEN_HEINZVMON.PI",
            "QueryType": "lab",
            "StartDateUnix": "1478016000",
            "EndDateUnix": "1478019600",
            "username": "slowcontrol",
            "api_key": "sesame",
        }
    ]


def test_no_samples_are_no_value(historian):
    assert service(historian)(*RUN) is None


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((403, b""), "answers 403 -> check SC_API_KEY"),
        ((500, b""), "answers 500"),
        ((302, b""), "answers 302"),
        ((200, b"<html>"), "does not answer in JSON"),
        ((200, {"error": "unknown"}), "does not answer with a list"),
        ((200, [{"value": None}]), "the cathode voltage is None"),
        ((None, None), "no answer in time"),
    ],
)
def test_what_the_service_gets_wrong_is_one_line_without_the_key(historian, answer, message):
    historian.answer = answer
    with pytest.raises(CaxflowError) as caught:
        service(historian, timeout=0.3 if answer[0] is None else 10)(*RUN)
    assert message in str(caught.value)
    assert "sesame" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert len(historian.asked) == 1  # the key is not carried elsewhere by a redirect


def test_a_service_that_is_not_there_is_named(historian):
    gone = service(historian)
    historian.shutdown()
    historian.socket.close()
    with pytest.raises(CaxflowError, match=r"slow control: http://127\.0\.0\.1.*ConnectionRefusedError"):
        gone(*RUN)


def test_the_key_comes_from_the_environment_only(historian, monkeypatch):
    monkeypatch.delenv(slowcontrol.KEY_VARIABLE)
    with pytest.raises(CaxflowError, match="export SC_API_KEY"):
        service(historian)(*RUN)
    assert historian.asked == []


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "host/GetSCData"])
def test_only_web_addresses_are_asked(url):
    with pytest.raises(CaxflowError, match="is not a web address"):
        slowcontrol.Service(url, "slowcontrol")


def test_the_configured_provider_is_chosen(tmp_path):
    path = write(tmp_path, "by_number.csv", "number,kv\n4242,12.5\n")
    held = [{"min": 0, "max": 9999, "value": 11}]
    assert slowcontrol.provider(table=path)(*RUN) == 12.5
    assert slowcontrol.provider(ranges=held)(*RUN) == 11.0
    assert slowcontrol.provider(service={"url": "https://host/x", "user": "u"}).timeout == 30
    assert slowcontrol.provider()(*RUN) is None
    for wrong, message in (
        ({"table": path, "ranges": held}, "more than one provider"),
        ({"ranges": [{"min": 0}]}, "range 0 has no value"),
        ({"service": {"url": "https://host/x", "key": "sesame"}}, "keys url, key"),
    ):
        with pytest.raises(CaxflowError, match=message):
            slowcontrol.provider(**wrong)


def test_each_run_is_asked_for_once_and_a_service_that_is_away_not_again():
    asked = []

    def service(name, number, start, end):
        asked.append(name)
        if name == "away":
            raise slowcontrol.Away("slow control: https://sc: no answer in time")

    known = slowcontrol.Remembered(service)
    for _ in range(2):
        assert known("160315_1432", 1, START, END) is None
    for name in ("away", "160315_1433"):
        with pytest.raises(CaxflowError, match="no answer in time"):
            known(name, 2, START, END)
    assert asked == ["160315_1432", "away"]
