"""A throw-away clone for each test."""

import pytest

from clones import Clone


@pytest.fixture
def clone(tmp_path, database_uri, database):
    """A clone that uses this test's own database."""
    return Clone(tmp_path, database_uri, database.name)


@pytest.fixture
def runs(database):
    """The collection of run documents."""
    return database.runs_new
