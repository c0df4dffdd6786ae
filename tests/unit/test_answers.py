"""What a far end answers: what is meant passes, all else is refused in one line."""

import json
import os
import socket
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caxflow.errors import CaxflowError
from caxflow.transfer import Place
from caxflow.transfer.answers import _SHAPES, makes_sense
from caxflow.transfer.ends import RemoteEnd
from caxflow.transfer.protocol import FdChannel, Stream, frame_json
from caxflow.transfer.remote import Reading
from caxflow.transfer.session import OPERATIONS, Session


def test_what_is_meant_makes_sense(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.zip").write_bytes(b"12")
    root, data = str(tmp_path), str(tmp_path / "data")
    session = Session(lambda _: None)
    asked = {
        "begin": {
            "destination": f"{root}/new", "token": "1", "wait": 0, "files": [["a", 1]], "directories": [],
            "root": root,
        },
        "publish": {"files": [], "directories": [], "single": False},
        "blocks": {"root": data, "files": [["a.zip", 2]], "algorithms": ["sha256"]},
        "census": {"root": root, "depth": 1},
        "examine": {"path": data, "algorithms": ["sha256", "sha512"]},
        "free_space": {"path": root},
        "inventory": {"path": data},
        "kind": {"path": f"{root}/nothing"},
        "leftovers": {"parent": root, "older_than": 0, "only": None},
        "look": {"paths": [data, f"{root}/nothing"]},
        "manifests": {"path": data, "algorithms": ["sha256", "adler32"], "drop_cache": False},
        "names": {"folder": root},
        "permissions": {"path": data, "wanted": [None, None, 0o700, 0o600, []], "apply": False},
        "have_one_file_system": {"one": root, "other": data},
        "scan": {"path": data},
        "scan_again": {"path": root},
        "root": {"root": root, "folder": data, "site": "here"},
        "markers": {"root": root},
        "mark": {"root": root, "text": "{}"},
        "link": {"path": f"{root}/link", "target": "data", "root": root},
        "rename": {"old": data, "new": f"{root}/moved", "root": root, "new_root": root},
    }  # fmt: skip
    assert asked.keys() == _SHAPES.keys() <= OPERATIONS
    for operation, arguments in asked.items():
        answer = getattr(session, operation)(**arguments)
        assert makes_sense(operation, arguments, json.loads(json.dumps(answer))), operation
    session.let_go()


def test_a_connection_that_ends_before_anything_is_asked_is_told():
    class Connection:
        def diagnosis(self, error):
            return CaxflowError(f"far: the connection to far broke ({error})", "start again")

    near, far = socket.socketpair()
    with near, far:
        Connection.stream = Stream(FdChannel(near.fileno(), near.fileno()))
        far.close()
        job = SimpleNamespace(listing=SimpleNamespace(root="/data"), algorithm="sha256")
        with pytest.raises(CaxflowError, match=r"^far: the connection to far broke"):
            Reading(job, SimpleNamespace(connection=Connection()), None)


GARBAGE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.sampled_from(["exists", "files"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(_SHAPES)), GARBAGE)
def test_garbage_breaks_nothing(operation, answer):
    arguments = {"files": [["a", 1]], "algorithms": ["sha256"], "paths": ["/a"]}
    assert makes_sense(operation, arguments, answer) in (True, False)


@pytest.mark.parametrize(
    ("operation", "arguments", "answer"),
    [
        ("begin", {}, None),
        ("begin", {}, {"exists": None, "data": "/data"}),
        ("begin", {}, {"exists": None, "data": "/data", "present": [["a"]]}),
        ("blocks", {"files": [["a", 1], ["b", 1]], "algorithms": ["sha256"]}, [[{"sha256": ""}, []]]),
        ("blocks", {"files": [["a", 1]], "algorithms": ["sha256"]}, [[{"adler32": ""}, []]]),
        ("look", {"paths": ["/a"]}, []),
        ("manifests", {"path": "/a", "algorithms": ["sha256"]}, {}),
        ("names", {"folder": "/a"}, ["a", 7]),
    ],
)
def test_what_makes_no_sense_is_refused(operation, arguments, answer):
    class Connection:
        place, algorithms, restriction = Place("far", "stream", host="far"), ("sha256",), None

    near, far = socket.socketpair()
    with near, far:
        Connection.stream = Stream(FdChannel(near.fileno(), near.fileno()))
        os.write(far.fileno(), frame_json({"result": answer}))
        with pytest.raises(CaxflowError, match=f"^far: gives an answer to '{operation}' that makes no sense"):
            RemoteEnd(Connection, None).call(operation, **arguments)
