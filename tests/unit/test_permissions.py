"""Owner, group, mode and access control list of copies: set and checked, by Python alone."""

import grp
import os
import pwd
import stat
import subprocess

import pytest

import needs
from caxflow import transfer
from caxflow.errors import CaxflowError
from caxflow.files import permissions
from caxflow.files.census import census
from caxflow.files.permissions import deviations
from caxflow.transfer import Place


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def copy(tmp_path):
    copy = tmp_path / "raw" / "160315_1432"
    (copy / "log").mkdir(parents=True)
    for name in ("a.zip", "log/b.log"):
        (copy / name).write_bytes(b"data")
        (copy / name).chmod(0o600)
    copy.chmod(0o700)
    return copy


def wanted(**keys):
    return permissions.read(keys, "site.yaml: permissions.raw")


def test_modes_are_set_found_and_not_touched_twice(copy):
    want = wanted(directories="2750", files="0640")
    found = deviations(str(copy), want)
    assert len(found) == 4
    assert f"{copy}/a.zip: mode 0600 instead of 0640" in found
    assert mode(copy / "a.zip") == 0o600
    deviations(str(copy), want, apply=True)
    assert (mode(copy), mode(copy / "log"), mode(copy / "log/b.log")) == (0o2750, 0o2750, 0o640)
    changed = (copy / "a.zip").stat().st_ctime_ns
    assert deviations(str(copy), want, apply=True) == []
    assert (copy / "a.zip").stat().st_ctime_ns == changed


def test_owner_and_group_are_set_by_name(copy):
    needs.root()
    user, group = pwd.getpwuid(1).pw_name, grp.getgrgid(1).gr_name
    want = wanted(owner=user, group=group, directories="2755")
    assert len(deviations(str(copy), want, apply=True)) == 4
    status = (copy / "log").stat()
    assert (status.st_uid, status.st_gid, mode(copy / "log")) == (1, 1, 0o2755)
    assert deviations(str(copy), want) == []


def test_lists_are_what_getfacl_reads(copy):
    group = grp.getgrgid(1).gr_name
    want = wanted(directories="0750", files="0640", acl=[f"group:{group}:r-X", "user:root:rw-"])
    deviations(str(copy), want, apply=True)
    assert deviations(str(copy), want) == []
    os.removexattr(copy / "a.zip", permissions.ACCESS)
    (line,) = deviations(str(copy), want)
    assert line.startswith(f"{copy}/a.zip: ")
    assert "access control list" in line
    needs.tool("getfacl")
    shown = subprocess.run(
        ["getfacl", "-cp", copy / "log/b.log", copy], capture_output=True, text=True, check=True
    ).stdout
    file, folder = shown.strip().split("\n\n")
    assert file.split("\n") == [
        "user::rw-", "user:root:rw-", "group::r--", f"group:{group}:r--", "mask::rw-", "other::---"
    ]  # fmt: skip
    assert f"default:group:{group}:r-x" in folder


def test_links_are_not_followed(copy, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("precious")
    outside.chmod(0o600)
    (copy / "link").symlink_to(outside)
    deviations(str(copy), wanted(files="0644"), apply=True)
    assert mode(outside) == 0o600


def test_what_cannot_be_is_one_line(copy):
    with pytest.raises(CaxflowError, match="there is no group 'nobody-has-it' on"):
        deviations(str(copy), wanted(group="nobody-has-it"))
    with pytest.raises(CaxflowError, match="shuts out the owner"):
        wanted(directories="0077")


def test_they_are_set_at_another_site(copy, sites):
    place = Place("midway", "stream", host="midway", ssh_config=str(sites.ssh_config))
    want = wanted(directories="0755", files="0644", acl=["user:root:r-X"])
    assert len(transfer.permissions(place, str(copy), want, apply=False)) == 4
    assert len(transfer.permissions(place, str(copy), want, apply=True)) == 4
    assert transfer.permissions(place, str(copy), want, apply=False) == []
    assert mode(copy / "log/b.log") & 0o604 == 0o604
    (item,) = transfer.census(place, str(copy.parent))
    assert (item.name, item.kind, item.size, item.files) == ("160315_1432", "directory", 8, 2)


def test_a_census_counts_what_is_below(copy, tmp_path):
    root = tmp_path / "raw"
    (root / ".caxflow-trash" / "160316_0000.ab").mkdir(parents=True)
    (root / "note").write_text("12345")
    (root / "link").symlink_to(tmp_path)
    found = {item.name: item for item in census(str(root))}
    assert set(found) == {"160315_1432", ".caxflow-trash/160316_0000.ab", "note", "link"}
    assert (found["note"].kind, found["note"].size) == ("file", 5)
    assert found["link"].kind == "other"
    assert found["160315_1432"].newest == pytest.approx(copy.stat().st_mtime, abs=60)
    deeper = {item.name for item in census(str(root), depth=2)}
    assert deeper == {"160315_1432/a.zip", "160315_1432/log", ".caxflow-trash/160316_0000.ab", "note", "link"}
    with pytest.raises(CaxflowError, match="No such file"):
        census(str(tmp_path / "nowhere"))
