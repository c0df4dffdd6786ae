"""The overview in HTML: what the summary says, in tiles and pictures; every text is escaped."""

import datetime
from collections.abc import Iterator, Mapping
from urllib.parse import quote

from caxflow import words
from caxflow.legible import html
from caxflow.page import charts, rows
from caxflow.page.summary import DAYS, Summary

TILES = (
    (rows.DONE, "done"),
    (rows.TODO, "to do here"),
    (rows.MOVING, "moving"),
    (rows.FAILED, "failed"),
    (rows.WAITS, "wait"),
    (rows.TAKING, "being taken"),
    (rows.ODD, "odd documents"),
    (rows.LEFT, "left out"),
)


def overview(summary: Summary, rates: Mapping[str, float], problems: list[str]) -> str:
    """Everything between the headings of the overview."""
    here = summary.settings.here.name
    cards = [
        _card(
            "Raw data by site",
            "at the end of each month, of the copies that are there now",
            charts.lines(summary.growth(), words.size, "raw data by site over time"),
        ),
        _card(
            "Copies a day",
            f"made in the last {DAYS} days, by kind",
            charts.bars(summary.a_day(), _count, "copies made on each day"),
        ),
        *_backlog(summary, here),
        _card(
            "Rates by link",
            "median of the newest copies that were made from here",
            charts.ranking(
                dict(rates), lambda rate: f"{words.size(rate)}/s", "no copy was made from here yet"
            ),
        ),
        _card(
            "Failures by reason",
            "what failed and was not made good since",
            charts.ranking(dict(summary.reasons.most_common(8)), _count, "nothing failed", _failed_for),
        ),
        _card("Unverified copies", "raw data that caxflow has not read again from disk", _ages(summary)),
    ]
    return "\n".join([_tiles(summary), f'<div class="cards">{"".join(cards)}</div>', _problems(problems)])


def _tiles(summary: Summary) -> str:
    tiles = [
        f'<li><a href="#/runs"><b>{summary.runs:,}</b><span>runs</span></a></li>',
        f"<li><div><b>{words.size(summary.bytes)}</b><span>of raw data</span></div></li>",
    ]
    for state, title in TILES:
        number = summary.states[state]
        kind = state if number else "zero"
        link = f"#/runs?state={state}"
        tiles.append(f'<li class="{kind}"><a href="{link}"><b>{number:,}</b><span>{title}</span></a></li>')
    return f'<ul class="tiles">{"".join(tiles)}</ul>'


def _backlog(summary: Summary, here: str) -> Iterator[str]:
    if summary.settings.here.origin:
        return
    line = {"runs": summary.waiting_here()}
    yield _card(
        "Backlog",
        f"runs that had ended and whose raw data were not at {html(here)}",
        charts.lines(line, _count, "backlog over time", filled=True, least=1),
    )


def _ages(summary: Summary) -> str:
    if not summary.unverified:
        return charts.nothing("every copy was read again")
    lines = []
    oldest = sorted(summary.unverified, key=lambda site: summary.oldest.get(site, (summary.now, ""))[0])
    for site in oldest:
        count = summary.unverified[site]
        age = ""
        if site in summary.oldest:
            since, run = summary.oldest[site]
            link = f'<a href="#/run/{quote(run)}">{html(run)}</a>'
            age = f"<small>the oldest, {link}, for {_age(summary.now - since)}</small>"
        said = f"{words.count(count['runs'], 'run')}, {words.size(count['bytes'])}"
        lines.append(f"<tr><td>{html(site)}{age}</td><td>{said}</td></tr>")
    return f'<table class="ranking"><tbody>{"".join(lines)}</tbody></table>'


def _problems(problems: list[str]) -> str:
    if not problems:
        return ""
    lines = "".join(f"<li>{html(line)}</li>" for line in problems[:50])
    more = f"<p>and {len(problems) - 50:,} more</p>" if len(problems) > 50 else ""
    return f'<section class="card"><h3>Documents to mend</h3><ul class="why">{lines}</ul>{more}</section>'


def _card(title: str, what: str, content: str) -> str:
    return f'<section class="card"><h3>{title}</h3><p>{what}</p>{content}</section>'


def _failed_for(reason: str) -> str:
    """The runs that failed for a reason; the table knows its beginning."""
    return f"#/runs?state={rows.FAILED}&q={quote(reason[: rows.LONGEST])}"


def _count(number: float) -> str:
    return f"{number:,.0f}"


def _age(age: datetime.timedelta) -> str:
    if age < datetime.timedelta(days=2):
        return words.count(int(age.total_seconds() // 3600), "hour")
    return words.count(age.days, "day")
