"""The runs page: a static site that shows every run, its copies and why it is where it is.

`write` makes or refreshes it. Nothing serves it and nothing is loaded from elsewhere: the data are scripts
beside ``index.html``, one a month for the table and one a day for the pages of single runs, so that it opens
from a disk as well as from a web server, and a refresh rewrites only what changed.
"""

from caxflow.page.site import PROJECTION, write

__all__ = ["PROJECTION", "write"]
