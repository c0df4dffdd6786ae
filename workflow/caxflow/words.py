"""Numbers as people say them."""


def size(count: float | None) -> str:
    """Bytes in decimal units: ``41.2 GB``."""
    if count is None:
        return "size unknown"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        text = f"{count:.0f}" if unit == "B" else f"{count:.1f}"
        if abs(float(text)) < 1000 or unit == "TB":
            return f"{text} {unit}"
        count /= 1000
    raise AssertionError


def count(number: int, noun: str) -> str:
    """A number and its noun: ``1 run``, ``1,200 runs``."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{number:,} {noun if number == 1 else plural}"
