"""What several modules of these tests share."""

import pytest

from caxflow import cli


@pytest.fixture
def caxflow(copies, capsys):
    """The command at a site of a module's `copies`; the exit code and what it printed."""

    def call(command, *words, **overrides):
        code = cli.main([command, "--profile", copies.profile(**overrides), *map(str, words)])
        out, err = capsys.readouterr()
        return code, out, err

    return call
