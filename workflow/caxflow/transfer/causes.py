"""Why a login failed: what ssh, shells and servers say (a pattern), what that means, and what to do."""

import re

from caxflow.errors import CaxflowError
from caxflow.transfer.place import Place

# In the words of OpenSSH and of paramiko.
BROKEN_OFF = (
    r"^Connection (closed|reset) by .+ port \d+|^Authentication (failed: transport shut down|timeout)",
    "{host} broke off the login: {line}",
    "try again later, or ask the site's manager: its sshd may be busy, restarting, or out of time",
)
# Before it began: by MaxStartups, for penalties (OpenSSH 9.8 or newer), by a firewall.
TURNED_AWAY = (
    r"banner line \d+: (Not allowed|Exceeded) .*|^kex_exchange_identification: .+"
    r"|^Error reading SSH protocol banner",
    "{host} takes no login now: {match[0]}",
    "try again later, or ask the site's manager: its sshd may be busy, or not let this machine in",
)
TOO_MANY = (
    r"(?i)too many logins",
    "{host} allows this account no further login: {line}",
    "end some there, or lower access.connections of the site",
)
REFUSED = (
    "check access.user of the site, IdentityFile in ssh_config, the agent, and authorized_keys of the account"
)
OTHER_PYTHON = "set access.python of the site to a Python 3.8 or newer, or access.method to scp"
UNREACHABLE = "check access.host and access.port of the site, and that its sshd is up"


class TurnedAway(CaxflowError):
    """A server that takes no login now, and may take one later."""


# The first that fits counts.
OF_LOGINS = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the host key of {host} has changed",
        "compare it with the site's manager, then correct known_hosts",
    ),
    (
        r"REVOKED HOST KEY|marked as revoked",
        "the host key of {host} is revoked",
        "ask the site's manager for the new one",
    ),
    (
        r"Certificate invalid: (.*)",
        "the host certificate of {host} is not valid: {match[1]}",
        "ask the site's manager for a new one",
    ),
    (
        r"^No \S+ host key is known for (\S+) and(?=[\s\S]*UNKNOWN port 65535)",
        "the host key of {match[1]}, through which {host} is reached, is not known",
        "get its fingerprint from its manager, then add it to known_hosts",
    ),
    (
        r"Host key verification failed|host key is known for|not found in known_hosts",
        "the host key of {host} is not known",
        "get its fingerprint from the site's manager, then add it to known_hosts",
    ),
    (
        r"with partial success",
        "{host} wants more than our key",
        "ask the site's manager for an account that a key alone opens",
    ),
    (
        r'Load key "(.+)": bad permissions',
        "ssh does not use the key {match[1]}, which others may read",
        "chmod 600 {match[1]}",
    ),
    (
        r'Load key "(.+)": (.+)',
        "ssh cannot read the key {match[1]}: {match[2]}",
        "name another in ssh_config",
    ),
    (
        r"signing failed for .*: (.+)",
        "the agent does not sign with our key: {match[1]}",
        "try: ssh-add -l",
    ),
    (
        # The server said so of each key that it knows; only the refusal tells that ssh could not use it.
        r"Server accepts key: (.+) \S+ SHA256:(?=[\s\S]*Permission denied \()",
        "the key {match[1]} is locked with a passphrase",
        "have an agent hold it: ssh-add {match[1]}",
    ),
    (
        r"no such identity: (.+): No such file",
        "there is no key {match[1]}",
        "correct IdentityFile in ssh_config",
    ),
    (
        r"Permission denied \(|Authentication failed|No authentication methods"
        r"|Too many authentication failures",
        "{host} refuses our key",
        REFUSED,
    ),
    (
        r"Could not resolve hostname ([^:\s]+)",
        "the name {match[1]} cannot be resolved",
        "check access.host and access.jump of the site, and ssh_config",
    ),
    (
        r"connect to host (\S+) port (\d+): (.+)",
        "{host} cannot be reached ({match[1]}, port {match[2]}: {match[3]})",
        UNREACHABLE,
    ),
    (
        r"Connection refused|No route to host|Network is unreachable|timed out|port 65535: Connection closed",
        "{host} cannot be reached",
        UNREACHABLE,
    ),
    (
        r"Bad configuration option|Bad owner or permissions on|Can't open user config file"
        r"|terminating, \d+ bad configuration",
        "ssh refuses its configuration: {line}",
        "correct that file",
    ),
    (
        # A ProxyCommand or a jump host ended, and may have said why.
        r"^(?!kex_exchange_identification: )(.+)$"
        r"(?=[\s\S]*^(Connection closed by|banner exchange: Connection to) UNKNOWN port 65535)",
        "{host} cannot be reached, or takes no login now ({match[1]})",
        "check access.jump of the site, ProxyJump and ProxyCommand in ssh_config; or try again later",
    ),
    TURNED_AWAY,
    BROKEN_OFF,
    (
        r"no matching (cipher|key exchange method|host key type|MAC)",
        "{host} and ssh have no {match[1]} in common ({line})",
        "name one that both have in ssh_config: Ciphers, KexAlgorithms, HostKeyAlgorithms or MACs",
    ),
)

OF_PARAMIKO = (
    TURNED_AWAY,
    BROKEN_OFF,
    (
        r"^Incompatible ssh .*",
        "{host} and paramiko have nothing in common: {match[0]}",
        "install ssh, which knows more ciphers and keys, or ask the site's manager",
    ),
)

# Of a key that starts `caxflow serve`, and of what was asked for in its place.
RESTRICTED = (r"^caxflow serve: (.+) -> (.+)$", "{host}: {match[1]}", "{match[2]}")

OF_HELPERS = (
    RESTRICTED,
    (
        r"^(ModuleNotFoundError: No module named 'encodings'|LookupError: unknown encoding.*)",
        "{python} at {host} does not start: {match[1]}",
        "correct PYTHONHOME or PYTHONIOENCODING there, or set access.python of the site to another",
    ),
    (
        r"MemoryError|Cannot allocate memory|<no Python frame>|Resource temporarily unavailable",
        "{python} at {host} may have too little memory, or too few processes: {line}",
        "raise the account's limits there: ulimit -v, ulimit -u",
    ),
    (
        r"caxflow needs Python 3\.8 or newer, this is (\d\S*)",
        "{python} at {host} is Python {match[1]}; 3.8 or newer is needed",
        "set access.python of the site to a newer one, or access.method to scp",
    ),
    (
        r"restricted: cannot specify .* in command names|: restricted",
        "the restricted shell at {host} does not run {python}",
        "set access.python of the site to a name without / that the PATH there has, or access.method to scp",
    ),
    (
        # Other programs may be missing, too, which start-up files call.
        r"(?i)^(?=.*{python}).*(command not found|Unknown command|not found$|No such file or directory"
        r"|: Permission denied)",
        "{python} cannot be run at {host}: {line}",
        OTHER_PYTHON,
    ),
    (
        r"(?i)This service allows sftp connections only|administratively|command not allowed"
        r"|account is currently not available",
        "{host} lets us run no program",
        "set access.method of the site to scp, or ask its manager for an account that may run programs",
    ),
    TOO_MANY,
)

OF_SFTP = (
    RESTRICTED,
    (
        r"(?i)subsystem request failed|no such file or directory|not found",
        "{host} offers no SFTP",
        "ask the site's manager for it, or set access.method of the site to stream",
    ),
    TOO_MANY,
)


def find(lines: list[str], causes, place: Place) -> CaxflowError | None:
    """Return the first of some causes that fits what was said when we tried to log in at `place`.

    Of several lines that a cause fits, the last counts.
    """
    text = "\n".join(lines)
    for cause in causes:
        pattern, what, hint = cause
        pattern = pattern.replace("{python}", re.escape(place.python))
        if found := list(re.finditer(pattern, text, re.MULTILINE)):
            match = found[-1]
            line = text[text.rfind("\n", 0, match.start()) + 1 :].partition("\n")[0].strip()
            facts = {"host": place.host, "python": place.python, "line": line, "match": match}
            kind = TurnedAway if cause is TURNED_AWAY else CaxflowError
            return kind(f"{place.site}: {what.format(**facts)}", hint.format(**facts))
    return None
