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

# The first that fits counts.
OF_LOGINS = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the host key of {host} has changed",
        "compare it with the site's manager, then mend known_hosts",
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
        "mend IdentityFile in ssh_config",
    ),
    (
        r"Permission denied \(|Authentication failed|No authentication methods"
        r"|Too many authentication failures",
        "{host} refuses our key",
        "check user and identity of the site, the agent, and the account's authorized_keys there",
    ),
    (
        r"Could not resolve hostname ([^:\s]+)",
        "the name {match[1]} cannot be resolved",
        "check host and jump of the site, and ssh_config",
    ),
    (
        r"connect to host (\S+) port (\d+): (.+)",
        "{host} cannot be reached ({match[1]}, port {match[2]}: {match[3]})",
        "check host and port, and that its sshd is up",
    ),
    (
        r"Connection refused|No route to host|Network is unreachable|timed out|port 65535: Connection closed",
        "{host} cannot be reached",
        "check host and port, and that its sshd is up",
    ),
    (
        r"Bad configuration option|Bad owner or permissions on|Can't open user config file"
        r"|terminating, \d+ bad configuration",
        "ssh refuses its configuration: {line}",
        "mend that file",
    ),
    (
        r"kex_exchange_identification: (.+)",
        "{host} lets nobody log in: {match[1]}",
        "try again later, or ask the site's manager: its sshd may be busy, or not let this machine in",
    ),
    BROKEN_OFF,
    (
        r"no matching (cipher|key exchange method|host key type|MAC)",
        "{host} and ssh have no {match[1]} in common",
        "set ciphers of the site to what its sshd offers",
    ),
)

OF_HELPERS = (
    *OF_LOGINS,
    (
        r"MemoryError|Cannot allocate memory|<no Python frame>|Resource temporarily unavailable",
        "{python} at {host} may have too little memory, or too few processes: {line}",
        "raise the account's limits there: ulimit -v, ulimit -u",
    ),
    (
        r"caxflow needs Python 3\.8 or newer, this is (\d\S*)",
        "{python} at {host} is Python {match[1]}; 3.8 or newer is needed",
        "set python of the site to a newer one, or its method to scp",
    ),
    (
        r"restricted: cannot specify .* in command names|: restricted",
        "the restricted shell at {host} does not run {python}",
        "set python of the site to a name without / that the PATH there has, or its method to scp",
    ),
    (
        r"(?i)command not found|Unknown command|not found$|No such file or directory|: Permission denied",
        "{python} cannot be run at {host}: {line}",
        "set python of the site to a Python 3.8 or newer, or its method to scp",
    ),
    (
        r"(?i)This service allows sftp connections only|administratively|command not allowed"
        r"|account is currently not available",
        "{host} lets us run no program",
        "set method of the site to scp, or ask its manager for an account that may run programs",
    ),
)

OF_SFTP = (
    *OF_LOGINS,
    (
        r"(?i)subsystem request failed|no such file or directory|not found",
        "{host} offers no SFTP",
        "ask the site's manager for it, or set method of the site to stream",
    ),
)


def find(lines: list[str], causes, place: Place) -> CaxflowError | None:
    """The first of some causes that fits what was said when we tried to log in at `place`."""
    text = "\n".join(lines)
    for pattern, what, mend in causes:
        if match := re.search(pattern, text, re.MULTILINE):
            line = next(line for line in lines if match[0] in line).strip()
            told = {"host": place.host, "python": place.python, "line": line, "match": match}
            return CaxflowError(f"{place.site}: {what.format(**told)}", mend.format(**told))
    return None
