"""What several modules of the lab need: a site behind a real sshd."""

import pytest

from caxflow.demo.sshd import SshSites
from caxflow.transfer import Place


@pytest.fixture(scope="module")
def lab(tmp_path_factory, require):
    require("sshd")
    with SshSites(tmp_path_factory.mktemp("lab") / "sites", ["far"], embedded=False) as sites:
        yield sites


@pytest.fixture
def far(lab):
    """Make a place at that site."""
    return lambda method="stream", **keys: Place(
        "far", method, host="far", ssh_config=str(lab.ssh_config), **keys
    )
