"""``python -m caxflow.cli``: the command where it is not installed."""

import sys

from caxflow.cli import main

sys.exit(main())
