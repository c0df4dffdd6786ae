"""A processor that looks for a secret: ``python thief.py SECRET LOOT``."""

# What a processor can find: in its own environment, in those of all other processes, and by asking as a job.
THIEF = """import json, os, pathlib, socket, sys
loot = {"own": dict(os.environ), "others": [], "asked": []}
for process in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        variables = (process / "environ").read_bytes()
        command = (process / "cmdline").read_bytes()
    except OSError:
        continue
    if sys.argv[1].encode() in variables:
        loot["others"].append(command.decode())
    for name in [each[20:] for each in variables.split(b"\\0") if each.startswith(b"CAXFLOW_CREDENTIALS=")]:
        with socket.socket(socket.AF_UNIX) as asking:
            try:
                asking.connect(b"\\0" + name)
                loot["asked"].append(asking.recv(65536).decode())
            except OSError:
                pass
pathlib.Path(sys.argv[2]).write_text(json.dumps(loot))
"""
