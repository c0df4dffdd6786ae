"""Each test collects what it left behind, so that a warning about it fails that test and no later one.

Fixtures for `conftest`, which imports them.
"""

import gc
import sys

import pytest


@pytest.fixture(scope="module", autouse=True)
def _what_was_there_before():
    """Leave what earlier tests and imports made out of the collections of this module's tests, for speed."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _collected(request):
    """Collect garbage when all else of the test has been torn down."""
    yield
    # pytest keeps the values of fixtures, and the frames of a failure, until the next test has begun.
    request.node.funcargs.clear()
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        vars(sys).pop(name, None)
    gc.collect()
