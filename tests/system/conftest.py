"""A fresh experiment for each test."""

import pytest

from experiment import Experiment


@pytest.fixture
def runs(database):
    """The collection of run documents."""
    return database["runs_new"]


@pytest.fixture
def experiment(tmp_path, sites, database, database_uri):
    """Three SSH sites that know each other, and an empty runs database."""
    return Experiment(tmp_path, sites, database_uri, database.name)
