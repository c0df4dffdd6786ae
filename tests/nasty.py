"""Text that has an effect where it is shown as it is; and what of it a text still has."""

import unicodedata

HOUSE = "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\"
TEXTS = [
    "\x1b[31mred\x1b[0m",
    "\x1b[2J\x1b[H",
    "\x1b]0;title\x07",
    "\x1bP+q544e\x1b\\",
    HOUSE,
    "\x9b31m",
    "\x9d0;title\x9c",
    "abc\rdef",
    "abc\ndone   copy 160315_9999",
    "abc\x0bdef\x0cghi",
    "a\x00b",
    "a\x08\x08b\x7f",
    "a\x85b\u2028c\u2029d",
    "\u202egpj.exe",
    "a\u2066b\u2069\u200e\u200f\u061c",
    "a\u200bb\u200c\u200d\u2060\ufeff",
    "\u00ad",
    "\u3164\u115f\u1160\uffa0\u2800",
    "a\ufe0f\U000e0101",
    "\U000e0041\U000e007f",
    "\ud800",
    "\udce9\udc9b31m",
    "e" + "\u0301" * 300,
    "\u0489" * 50,
    "\ue000\U000f0000\U0010ffff",
    "漢" * 9000,
    "x" * 100_000,
    "\x1b[31m" * 50_000,
    "[bold red]x[/bold red][link=http://evil.example]y[/link]:bomb:",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "*b* _i_ ~s~ `c` <!channel> <http://evil.example|x> @here",
    "=cmd|' /C calc'!A0",
    "$(touch pwned) `touch pwned` ; touch pwned",
    "{0} {x} %s %(x)s ${x}",
]
# Those that a database takes: text is UTF-8 there.
STORED = [each for each in TEXTS if each.encode("utf-8", "replace").decode() == each]
# Those that a file may be called.
NAMES = [each for each in TEXTS if len(each) < 60 and not set(each) & {"\0", "/", "\ud800"}]
_UNSEEN = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, *range(0xFE00, 0xFE10)}
LONGEST = 6000  # characters of a line


def called(text):
    """The name of a test with a text."""
    return ascii(text)[1:30]


def effects(line):
    """What of a line is not simply seen, in words; nothing is as it should be."""
    found = [f"{ord(each):x}" for each in line if not each.isprintable() or ord(each) in _UNSEEN]
    stacked = 0
    for each in line:
        stacked = stacked + 1 if unicodedata.category(each) in ("Mn", "Me") else 0
        if stacked > 4:
            found.append("stacked marks")
            break
    if len(line) > LONGEST:
        found.append(f"{len(line)} characters")
    return found


def shown_effects(text):
    """The same of all lines of a text."""
    return [(line[:200], effects(line)) for line in text.split("\n") if effects(line)]
