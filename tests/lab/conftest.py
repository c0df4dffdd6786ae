"""What several modules of the lab need: sites behind a real sshd."""

import pytest

from caxflow.demo.sshd import SshSites
from caxflow.transfer import Place


@pytest.fixture(scope="module")
def lab(tmp_path_factory, require):
    require("sshd")
    require("ssh")
    with SshSites(tmp_path_factory.mktemp("lab") / "sites", ["far", "other"], embedded=False) as sites:
        yield sites


@pytest.fixture
def far(lab):
    """Make a place at one of them."""
    return lambda method="stream", **keys: Place(
        "far", method, host="far", ssh_config=str(lab.ssh_config), **keys
    )
