"""Options of ssh: those that a program's channel does not bear are overridden, whatever ssh_config says."""

import re
import shutil
import subprocess

import pytest

from caxflow.transfer import Place
from caxflow.transfer.ssh import arguments

# Overridden: what ssh_config might say, and what counts then.
OVERRIDDEN = {
    "addkeystoagent": ("yes", "false"),  # a copy changes no agent, and confirms nothing
    "batchmode": ("no", "yes"),  # no questions
    "channeltimeout": ("session=1s", "session=0 global=0"),  # a far disk may take longer
    "clearallforwardings": ("no", "yes"),  # ports that are taken would end each further connection
    "compression": ("yes", "no"),  # 15 s of CPU time a GB, for data that are compressed
    "connectionattempts": ("7", "1"),  # a login that is turned away is tried again in moderation
    "connecttimeout": ("1", "30"),  # as the site's timeout says
    "controlmaster": ("auto", "false"),  # one process and one window for all connections
    "controlpath": ("/tmp/none-%C", None),
    "escapechar": ("~", "none"),  # ~. is data
    "forkafterauthentication": ("yes", "no"),  # ssh would leave its standard input
    "forwardagent": ("yes", "no"),  # nothing there needs our keys
    "forwardx11": ("yes", "no"),
    "loglevel": ("QUIET", "DEBUG"),  # says why a login failed
    "logverbose": ("kex.c:*:1000", "none"),
    "nohostauthenticationforlocalhost": ("yes", "no"),  # which may be the end of a tunnel to anywhere
    "obscurekeystroketiming": ("interval:80", "no"),  # chaff
    "permitlocalcommand": ("yes", "no"),  # what it prints is taken for the far end's
    "rekeylimit": ("100K 1", "0 86400"),  # new keys each second let no byte pass
    "remotecommand": ("sleep 1000", None),  # ours is what is run
    "requesttty": ("force", "false"),  # a terminal changes bytes
    "serveralivecountmax": ("1", "3"),  # a link that was cut is noticed, and a slow one is borne
    "serveraliveinterval": ("0", "15"),
    "sessiontype": ("none", "default"),
    "stdinnull": ("yes", "no"),  # what we send comes that way
    "stricthostkeychecking": ("accept-new", "true"),  # no host is trusted at first sight
    "tunnel": ("ethernet", "false"),  # which would need a device
    "updatehostkeys": ("yes", "false"),  # connections side by side must not write known_hosts
    "visualhostkey": ("yes", "no"),  # a picture among the words
    "warnweakcrypto": ("yes", "no"),  # a remark is no cause
}
# Where OpenSSH has them from: not every version can be asked.
NEWER = {"channeltimeout", "obscurekeystroketiming", "warnweakcrypto"}

LEFT = {
    "who logs in, and how: the site's and the user's affair": """
        user identityfile identitiesonly identityagent certificatefile pkcs11provider securitykeyprovider
        pubkeyauthentication pubkeyacceptedalgorithms passwordauthentication kbdinteractiveauthentication
        kbdinteractivedevices numberofpasswordprompts preferredauthentications hostbasedauthentication
        hostbasedacceptedalgorithms enablesshkeysign gssapiauthentication gssapidelegatecredentials
        gssapiclientidentity gssapiserveridentity gssapikeyexchange gssapikexalgorithms
        gssapirenewalforcesrekey gssapitrustdns requiredrsasize""",
    "who is trusted: stricter than ours it may be": """
        userknownhostsfile globalknownhostsfile knownhostscommand hostkeyalias hostkeyalgorithms
        casignaturealgorithms checkhostip hashknownhosts revokedhostkeys verifyhostkeydns fingerprinthash""",
    "the way there": """
        host match hostname port addressfamily bindaddress bindinterface proxycommand proxyjump proxyusefdpass
        canonicalizehostname canonicaldomains canonicalizefallbacklocal canonicalizemaxdots
        canonicalizepermittedcnames tcpkeepalive ipqos tag refuseconnection versionaddendum""",
    "what both ends must know; of the ciphers, fast ones are only put first": """
        ciphers kexalgorithms macs""",
    "without effect on a session without forwarding, terminal and shared connection": """
        controlpersist dynamicforward localforward remoteforward permitremoteopen exitonforwardfailure
        gatewayports forwardx11timeout forwardx11trusted xauthlocation streamlocalbindmask
        streamlocalbindunlink tunneldevice enableescapecommandline localcommand syslogfacility""",
    "what the far end's programs see; its sshd decides what it takes, and the helper needs nothing of it": """
        sendenv setenv""",
    "how configurations are read": "include ignoreunknown",
}
DECIDED = {*OVERRIDDEN, *" ".join(LEFT.values()).split()}


@pytest.fixture
def ask(tmp_path, require):
    """What ssh makes of a configuration, under options of the command line before the host."""
    require("ssh")

    def found(text, command=("ssh",), host="far"):
        (tmp_path / "config").write_text(text)
        said = subprocess.run(
            [*command, "-F", str(tmp_path / "config"), "-G", host], capture_output=True, text=True, check=True
        )
        pairs = (line.partition(" ") for line in said.stdout.splitlines())
        return {name.lower(): value for name, _, value in pairs}

    return found


def documented() -> set[str]:
    """Options that the manual of the installed ssh describes, where it is installed."""
    if not shutil.which("man"):
        return set()
    said = subprocess.run(
        ["man", "-P", "cat", "5", "ssh_config"],
        capture_output=True,
        text=True,
        check=False,
        env={"MANWIDTH": "100"},
    )
    return {name.lower() for name in re.findall(r"^ {5}([A-Z]\w+)(?:$| {2})", said.stdout, re.MULTILINE)}


def test_every_option_is_decided(ask):
    assert len(ask("")) > 60
    assert {*ask(""), *documented()} - DECIDED == set()
    assert not set(OVERRIDDEN) & set(" ".join(LEFT.values()).split())


def test_what_a_channel_does_not_bear_is_overridden(ask, tmp_path):
    known = {name for name in OVERRIDDEN if name in ask("") or name not in NEWER}
    hostile = "".join(f"{name} {OVERRIDDEN[name][0]}\n" for name in sorted(known))
    before = ask(hostile)
    *options, host = arguments(Place("far", "stream", host="far", ssh_config=str(tmp_path / "config")))
    after = ask(hostile, options, host)
    assert {name: after.get(name) for name in known} == {name: OVERRIDDEN[name][1] for name in known}
    for name in known - {"tunnel"}:
        assert before.get(name) != after.get(name), f"{name} was not hostile"


def test_a_configuration_that_is_wanted_stays(ask, tmp_path):
    text = "user other\nport 2200\nciphers aes256-ctr,aes128-ctr\nipqos ef\nsetenv A=B\nproxyjump gate\n"
    before = ask(text)
    *options, host = arguments(Place("far", "stream", host="far", ssh_config=str(tmp_path / "config")))
    after = ask(text, options, host)
    assert {name for name in before if before[name] != after.get(name)} <= {*OVERRIDDEN, "ciphers", "host"}
    assert after["ciphers"] == "aes128-ctr,aes256-ctr", "the fast ones first, and no other"
