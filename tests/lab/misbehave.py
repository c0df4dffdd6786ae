"""A processor that does to its batch job what a file tells it to, then lets the stand-in paxer do the work.

Usage: misbehave.py MOODS RUN PAXER...; MOODS is a folder with a file of the run's name that holds its mood.
"""

import os
import subprocess
import sys
import time
from pathlib import Path


def main():
    moods, run, *paxer = sys.argv[1:]
    mood = Path(moods, run).read_text()
    tries = Path(moods, f"{run}.tries")
    tried = int(tries.read_text()) if tries.exists() else 0
    tries.write_text(str(tried + 1))
    print(f"{run} is {mood}, attempt {tried + 1}", flush=True)
    if mood == "failing":
        sys.exit("the electron lifetime is negative")
    if mood == "cancelled" or (mood == "slow" and tried == 0):
        time.sleep(600)
    if mood == "waiting":
        while not Path(moods, f"{run}.go").exists():
            time.sleep(0.1)
    if mood == "hungry" and tried == 0:
        eaten = os.urandom(1 << 20) * 900
        time.sleep(600)
        del eaten
    sys.exit(subprocess.run([sys.executable, *paxer], check=False).returncode)


if __name__ == "__main__":
    main()
