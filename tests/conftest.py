"""Fixtures for all tests: a runs database, SSH sites, and tools that must be there."""

import os
import signal
import uuid
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings

import mortal
import needs
from caxflow import preview
from caxflow.demo.database import DatabaseServer
from caxflow.demo.sshd import SshSites
from garbage import (  # noqa: F401
    _cleared_up,
    _what_was_there_before,
    pytest_configure,
    pytest_runtest_makereport,
)

# No test may depend on how busy the machine is.
settings.register_profile(
    "shared machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("shared machine")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in a job that a script put into the background; the programs under test would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter):
    """Say in a line for each reason what was skipped."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"skipped {count}: {reason}")


@pytest.fixture(scope="session")
def require():
    """`require(tool)` returns the tool's path, or ends the test with the reason."""
    return needs.tool


@pytest.fixture(scope="session")
def database_uri(tmp_path_factory):
    """URI of a MongoDB: CAXFLOW_TEST_MONGODB where set, else a server of this test session."""
    if uri := os.environ.get("CAXFLOW_TEST_MONGODB"):
        yield uri
        return
    server = DatabaseServer(tmp_path_factory.mktemp("rundb"), durable=False).start()
    yield server.uri
    # Nobody needs what it stores: a gentle stop would take seconds.
    server.kill()


@pytest.fixture
def database(database_uri):
    """Yield an empty pymongo database of this test's own; commands a server may get wrong fail the test.

    The guard sees every client that this process makes during the test, not those of other processes.
    """
    import pymongo

    from rundb_guard import guarded

    with guarded() as guard, pymongo.MongoClient(database_uri, tz_aware=False) as client:
        name = f"test_{uuid.uuid4().hex[:12]}"
        yield client[name]
        client.drop_database(name)
    if guard.findings:
        pytest.fail("\n".join(guard.findings), pytrace=False)


@pytest.fixture(autouse=True)
def _may_change_things():
    """What one test previews, the next may do."""
    yield
    preview.only_look(False)


@pytest.fixture
def sites(tmp_path):
    """SSH sites lngs, midway and tegner of this test's own, served by OpenSSH."""
    needs.tool("sshd")
    with SshSites(tmp_path / "sites", ["lngs", "midway", "tegner"], embedded=False) as running:
        yield running


@pytest.fixture
def zygote(copies):
    """Calls of the workflow, or of the command, in the world of a module's `copies`."""
    zygote = mortal.Zygote(copies.folder, "onecall")
    yield zygote
    zygote.close()
