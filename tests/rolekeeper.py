"""A server that lets a user do what a role says, and refuses all else as MongoDB does, before a real one."""

import contextlib
import struct

import bson

import wires

FREE = {*wires.GREETINGS, "buildInfo", "killCursors", "saslStart", "saslContinue"}
# What MongoDB asks for beside the action that is called like the command.
ACTIONS = {
    "aggregate": {"find"},
    "count": {"find"},
    "distinct": {"find"},
    "getMore": {"find"},
    "delete": {"remove"},
    "createIndexes": {"createIndex"},
}


class RoleKeeper(wires.Wire):
    """Passes on what a role allows.

    Parameters
    ----------
    uri : str
        Of the server.
    privileges : mapping
        Actions by collection.

    Attributes
    ----------
    refused : list of (str, str)
        Commands, and the collections that they were about.
    seen : set of str
        Commands that were let pass.
    """

    def __init__(self, uri, privileges):
        self.privileges, self.refused, self.seen = privileges, [], set()
        super().__init__(uri)

    def _forth(self, client, server, broken):
        with contextlib.suppress(OSError, EOFError):
            while True:
                head = wires._receive(client, 16)
                body = wires._receive(client, struct.unpack("<i", head[:4])[0] - 16)
                if (name := wires._name(head, body)) in FREE or self._allows(name, body):
                    server.sendall(head + body)
                    continue
                answer = {
                    "ok": 0,
                    "code": 13,
                    "codeName": "Unauthorized",
                    "errmsg": f"not authorized for {name}",
                }
                reply = struct.pack("<iB", 0, 0) + bson.encode(answer)
                request = struct.unpack("<i", head[4:8])[0]
                client.sendall(struct.pack("<iiii", 16 + len(reply), 0, request, wires.OP_MSG) + reply)
        wires._cut(client, server)

    def _allows(self, name, body):
        sections = list(_documents(body))
        command = sections[0]
        collection = command["collection"] if name == "getMore" else command[name]
        wanted = set(ACTIONS.get(name, {name}))
        if any("$changeStream" in stage for stage in command.get("pipeline", ())):
            wanted.add("changeStream")
        if any(each.get("upsert") for each in [*sections[1:], *command.get("updates", ())]):
            wanted.add("insert")
        if wanted <= set(self.privileges.get(collection, ())):
            self.seen.add(name)
            return True
        self.refused.append((name, collection))
        return False


def _documents(body):
    """The documents of a message: the command, then those of its sequences."""
    place = 4
    while place < len(body):
        kind, place = body[place], place + 1
        size = struct.unpack("<i", body[place : place + 4])[0]
        section = body[place : place + size]
        place += size
        if kind:
            section = section[section.index(b"\0", 4) + 1 :]
        yield from bson.decode_all(section)
