"""The runs page as its readers meet it: in a real headless Chromium, from a folder, without any server."""

import datetime
import json
import random
from pathlib import Path

import pytest
import yaml

from browser import Browser, find
from caxflow import config, page
from caxflow.page import stated
from caxflow.page.site import POLICY
from caxflow.targets import Run, Target
from caxflow.workdir import journal

NOW = datetime.datetime(2017, 3, 1, 12)
OWN = "document.title='owned'"
HOSTILE = f'</script><script>{OWN}</script><img src=x onerror="{OWN}"> & <b>x</b>'
BY_CAX = {"manifest": None, "checksum": "ab" * 64, "caxflow": None}
HOSTS = {"lngs": "xe1t-datamanager", "midway": "midway-login1", "nikhef": "nikhef-bongo"}
DATA = {}  # where each site's data are; set by `settings`
ERRORS = ("lngs: connection lost after {} GB -> try again", "midway: the disk is full")


def documents(count, *, apart=70):
    """Run documents as an experiment has them, newest first: in order, moving, failed and waiting."""
    dice = random.Random(1)
    for index in range(count):
        start = NOW - datetime.timedelta(minutes=apart * index + 5)
        veto = index % 2 == 1
        name = f"{start:%y%m%d_%H%M}"
        end = start + datetime.timedelta(minutes=60)
        run = name + "_MV" * veto
        yield {
            "_id": index,
            "name": name,
            "number": 0 if veto else 9000 + (count - index) // 2,
            "detector": "muon_veto" if veto else "tpc",
            "start": start,
            "end": None if index == 0 else end,
            "user": "daq",
            "source": {"type": dice.choice(["none", "none", "Rn220", "Kr83m", "AmBe"])},
            "tags": [
                {"name": tag} for tag in dice.choice([["_sciencerun1"], ["_sciencerun0"], [], ["messy"]])
            ],
            "comments": [{"text": HOSTILE, "user": HOSTILE, "date": end}] if index == 9 else [],
            "reader": {"self_trigger": True, "ini": {"name": "background_stable", "write_mode": 2}},
            "trigger": {"events_built": dice.randint(10_000, 40_000)},
            "raw_size_byte": int(dice.gauss(38e9, 6e9)),
            "data": list(entries(run, index, end, dice)),
        }


def entries(run, index, end, dice):
    digest = f"xxh128:{dice.getrandbits(128):032x}"

    def entry(site, minutes, status="transferred", **note):
        made = end + datetime.timedelta(minutes=minutes)
        verified = {"verified": made} if status == "transferred" and site != "lngs" else {}
        known = {"manifest": digest} if status == "transferred" else {}
        location = DATA[site] / run
        if site == "midway" and status == "transferred":
            location.mkdir(exist_ok=True)
        return {
            "type": "raw",
            "host": HOSTS[site],
            "status": status,
            "location": str(location),
            "creation_time": made,
            **known,
            "caxflow": note | verified,
        }

    yield entry("lngs", 5)
    if index in (4, 5):
        yield entry("midway", 40, "transferring", owner="midway", lease=NOW + datetime.timedelta(hours=1))
    elif index > 5 and index % 37 == 6:
        reason = dice.choice(ERRORS).format(dice.randint(1, 40))
        yield entry("midway", 40, "error", owner="midway", error=reason, attempts=2)
    elif index > 5:
        yield entry("midway", dice.randint(20, 90), owner="midway")
    if index > 20 and index % 5:
        yield entry("nikhef", 200, owner="nikhef") | (BY_CAX if index % 3 == 0 else {})
    if index % 9 == 0:
        yield {"type": "raw", "host": "rucio-catalogue", "status": "transferred", "location": "x1t:raw"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("config")
    (folder / "sites").mkdir()
    for site, host in HOSTS.items():
        DATA[site] = folder / site / "raw"
        DATA[site].mkdir(parents=True)
        content = {"host": host, "roots": {"raw": str(DATA[site])}}
        content |= {"origin": True} if site == "lngs" else {"pull_from": ["lngs"]}
        (folder / "sites" / f"{site}.yaml").write_text(yaml.safe_dump(content))
    main = {"site": "midway", "kinds": ["raw"], "rundb": {"uri": "mongodb://127.0.0.1:1"}}
    (folder / "config.yaml").write_text(yaml.safe_dump(main))
    return config.load({}, folder)


@pytest.fixture(scope="module")
def browser(require, tmp_path_factory):
    if find() is None:
        require("chromium")
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running
    assert running.errors == []


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory):
    """A work directory with one receipt, of a run with a hostile source of it."""
    work = tmp_path_factory.mktemp("work")
    run = "170301_0015"
    receipt = {
        "stage": "raw.done",
        "at": "2017-03-01T03:00:00+00:00",
        "source": "lngs",
        "bytes": 41_200_000_000,
        "rate": 98_000_000,
        "proof": "hashed at both ends while it moved",
        "caxflow": "0.1.0",
        "manifest": {"digest": "xxh128:00", "files": [["<i>one</i>.zip", 26_306_218, "9028fffc62dc"]]},
    }
    (work / "midway").mkdir()
    (work / "midway" / f"{run}.raw.done").write_text(json.dumps(receipt))
    return work


@pytest.fixture(scope="module")
def site(settings, work_dir, tmp_path_factory):
    """The address of a page of 1500 runs."""
    folder = tmp_path_factory.mktemp("page")
    assert page.write(documents(1500), settings, folder, work_dir, NOW) == 1500
    return f"file://{folder}/index.html"


@pytest.fixture(scope="module")
def pictures(pytestconfig):
    return pytestconfig.rootpath / "artefacts" / "page"


@pytest.fixture
def runs(browser, site):
    """The table, loaded and unfiltered."""
    browser.screen(1280, 1000)
    browser.open("about:blank")
    browser.open(f"{site}#/runs")
    browser.until("caxflow.runs.complete")
    return browser


def names(browser):
    return browser.texts("#table tbody th a")


def test_overview_says_how_it_stands(browser, site, pictures):
    browser.screen(1280, 1000)
    browser.open(f"{site}#/")
    tiles = dict(reversed(tile.split("\n")) for tile in browser.texts(".tiles li"))
    assert tiles["runs"] == "1,500"
    assert tiles["failed"] == str(sum(1 for index in range(6, 1500) if index % 37 == 6))
    assert (tiles["moving"], tiles["to do here"], tiles["being taken"]) == ("2", "3", "1")
    cards = {text.split("\n")[0]: text for text in browser.texts("#overview .card")}
    assert "lngs → midway" in cards["Rates by link"]
    assert "98.0 MB/s" in cards["Rates by link"]
    # Equal reasons count together, whatever their numbers.
    assert "connection lost after N GB" in cards["Failures by reason"]
    assert "nikhef" in cards["Unverified copies"]
    assert browser.evaluate("document.querySelectorAll('#overview svg.chart').length") == 3
    for dark in (False, True):
        browser.screen(1280, 1000, dark=dark)
        browser.picture(pictures / f"overview-{'dark' if dark else 'light'}.png")


def test_a_run_is_found_by_its_name_or_number_from_anywhere(browser, site):
    browser.screen(1280, 1000)
    browser.open("about:blank")
    browser.open(f"{site}#/")
    for typed, found in (("9001", list(documents(1500))[1498]["name"]), ("170301_0605_mv", "170301_0605_MV")):
        browser.press("/", "Slash", 191, text="/")
        browser.until("document.activeElement.matches('#find input')")
        for letter in typed:
            browser.press(letter, text=letter)
        browser.press("Enter", number=13, text="\r")
        # The address changes first; what it names is shown by an event that follows.
        browser.until(f"document.querySelector('#run h2')?.innerText.startsWith('{found}')")
        assert browser.evaluate("location.hash") == f"#/run/{found}"
    browser.open(f"{site}#/run/4")
    browser.until("document.querySelector('#run .nothing')")
    assert "Run 4" in browser.text("#run h2")
    browser.open(f"{site}#/runs?q=170228_1455")
    browser.until("caxflow.runs.complete")
    browser.evaluate("document.querySelector('#filters').requestSubmit()")
    browser.until("location.hash === '#/run/170228_1455'")


def test_a_run_that_loads_late_does_not_replace_the_one_that_was_asked_for_since(browser, site):
    first, later = (document["name"] for document in list(documents(1500))[1000:1400:300])
    browser.open("about:blank")
    browser.open(f"{site}#/run/{later}")
    browser.until("document.querySelector('#run h2')")
    browser.evaluate(f"""new Promise((done) => {{
        addEventListener('hashchange', () => {{
            addEventListener('hashchange', done, {{once: true}});
            location.hash = '#/run/{later}';
        }}, {{once: true}});
        location.hash = '#/run/{first}';
    }}).then(() => null)""")
    # Its day has come, and what waited for that was called: the script element went before.
    day = first[:6]
    browser.until(f"caxflow.days['{day}'] && !document.querySelector('script[src*=\"days/{day}\"]')")
    assert browser.text("#run h2").startswith(later)


def test_says_what_failed_before_what_is_next(browser, settings, tmp_path):
    runs = list(documents(30))
    name = runs[20]["name"]
    target = Target("midway", Run(name), "settings.json")
    journal.fail(tmp_path / "work", target, HOSTILE)
    page.write(runs, settings, tmp_path / "page", tmp_path / "work", NOW)
    browser.open(f"file://{tmp_path}/page/index.html#/runs?state=f")
    browser.until("caxflow.runs.complete")
    assert names(browser) == [runs[6]["name"], name]
    browser.open(f"file://{tmp_path}/page/index.html#/run/{runs[6]['name']}")
    browser.until("document.querySelector('#run .history')")
    assert "raw at midway: begun" in browser.text("#run .history")
    for index, said in ((20, HOSTILE), (6, "midway: the disk is full")):
        browser.open(f"file://{tmp_path}/page/index.html#/run/{runs[index]['name']}")
        browser.until(f"document.querySelector('#run h2')?.innerText.startsWith('{runs[index]['name']}')")
        first = browser.text("#run .why li")
        assert first.startswith("failed: ")
        assert said in first


def test_a_page_that_nobody_writes_says_so(browser, settings, tmp_path):
    for now, hidden in ((NOW, False), (datetime.datetime.now(datetime.UTC).replace(tzinfo=None), True)):
        page.write(documents(1), settings, tmp_path / "page", tmp_path, now)
        browser.open("about:blank")
        browser.open(f"file://{tmp_path}/page/index.html")
        assert browser.evaluate("document.getElementById('age').hidden") is hidden
        assert hidden or "days old: no call at midway has written it" in browser.text("#age")


def test_tile_leads_to_its_runs(browser, site):
    browser.open("about:blank")
    browser.open(f"{site}#/")
    browser.click(".tiles li.m a")
    browser.until("caxflow.runs.complete")
    assert browser.text("#found") == "2 of 1,500 runs"
    assert set(browser.texts("#table tbody .state")) == {"moving"}


def test_a_reason_leads_to_the_runs_that_failed_for_it(browser, site):
    browser.open("about:blank")
    browser.open(f"{site}#/")
    expected = dict(zip(*[iter(browser.texts("#overview .ranking td"))] * 2, strict=False))
    browser.evaluate(
        "[...document.querySelectorAll('.ranking a')].find((a) => a.text.includes('lost')).click()"
    )
    browser.until("caxflow.runs.complete")
    found = next(number for reason, number in expected.items() if "lost" in reason)
    assert browser.text("#found") == f"{found} of 1,500 runs"
    assert set(browser.texts("#table tbody .state")) == {"failed"}


def test_newest_come_first_and_pages_turn(runs):
    expected = [document["name"] + "_MV" * (document["number"] == 0) for document in documents(300)]
    assert names(runs) == expected[:100]
    runs.click("[data-page=next]")
    assert names(runs) == expected[100:200]
    assert runs.text("#pager span") == "page 2 of 15"


@pytest.mark.parametrize(
    ("column", "key"),
    [
        ("bytes", lambda document: document["raw_size_byte"]),
        ("events", lambda document: document["trigger"]["events_built"]),
        ("name", lambda document: document["name"]),
    ],
)
def test_sorts_both_ways(runs, column, key):
    ordered = sorted(documents(1500), key=key)
    by_name = {document["name"]: key(document) for document in ordered}
    if column == "name":
        runs.click("[data-sort=bytes]")
    runs.click(f"[data-sort={column}]")
    assert (
        runs.evaluate(f"document.querySelector('[data-sort={column}]').closest('th').ariaSort")
        == "descending"
    )
    assert [by_name[name[:11]] for name in names(runs)] == [key(document) for document in ordered[::-1][:100]]
    runs.click(f"[data-sort={column}]")
    assert [by_name[name[:11]] for name in names(runs)] == [key(document) for document in ordered[:100]]


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("detector", "muon_veto", lambda document: document["detector"] == "muon_veto"),
        ("source", "Kr83m", lambda document: document["source"]["type"] == "Kr83m"),
        ("tag", "messy", lambda document: {"name": "messy"} in document["tags"]),
        ("state", "f", lambda document: any(entry["status"] == "error" for entry in document["data"])),
        ("site", "nikhef-bongo", lambda document: any(e["host"] == "nikhef-bongo" for e in document["data"])),
        (
            "site",
            "rucio-catalogue",
            lambda document: any(e["host"] == "rucio-catalogue" for e in document["data"]),
        ),
        ("copy", "m", lambda document: any(entry["status"] == "transferring" for entry in document["data"])),
        (
            "q",
            "kr83m messy",
            lambda document: document["source"]["type"] == "Kr83m" and {"name": "messy"} in document["tags"],
        ),
        ("q", "170228_1", lambda document: document["name"].startswith("170228_1")),
    ],
)
def test_filters(runs, field, value, wanted):
    expected = sum(map(wanted, documents(1500)))
    assert 0 < expected < 1500
    runs.choose(field, value)
    assert runs.text("#found") == f"{expected:,} of 1,500 runs"
    # The address can be sent to somebody.
    address = runs.evaluate("location.href")
    runs.open("about:blank")
    runs.open(address)
    runs.until("caxflow.runs.complete")
    assert runs.text("#found") == f"{expected:,} of 1,500 runs"
    runs.click("#filters [type=reset]")
    runs.until("document.querySelector('#found').innerText === '1,500 runs'")


def test_site_and_state_of_its_copy_together(runs):
    runs.choose("site", HOSTS["midway"])
    runs.choose("copy", "none")
    assert runs.text("#found") == "4 of 1,500 runs"


def test_hostile_comment_stays_text(browser, site, pictures):
    hostile = list(documents(10))[9]["name"] + "_MV"
    browser.screen(1280, 1000)
    browser.open(f"{site}#/run/{hostile}")
    browser.until("document.querySelector('#run h2')")
    assert HOSTILE in browser.text("#run")
    assert browser.evaluate("document.querySelectorAll('#run img, #run script, #run b').length") == 0
    assert browser.evaluate("document.title") == f"Run {hostile}"
    browser.picture(pictures / "run-light.png")


def test_hostile_source_tag_and_host_stay_text(browser, settings, tmp_path):
    document = next(documents(1)) | {
        "source": {"type": HOSTILE},
        "tags": [{"name": HOSTILE}],
        "user": HOSTILE,
    }
    document["data"][0] |= {"status": HOSTILE, "location": HOSTILE}
    document["data"].append(document["data"][0] | {"host": HOSTILE})
    bad_name = next(documents(1)) | {"name": HOSTILE}
    page.write([document, bad_name], settings, tmp_path / "page", tmp_path, NOW)
    address = f"file://{tmp_path}/page/index.html"
    browser.open(address)
    assert HOSTILE[:20] in browser.text("#overview")
    browser.open(f"{address}#/runs")
    browser.until("caxflow.runs.complete")
    assert HOSTILE[:20] in browser.text("#table tbody")
    browser.open(f"{address}#/run/{document['name']}")
    browser.until("document.querySelector('#run h2')")
    assert (
        browser.evaluate("document.querySelectorAll('main img, main script, main b:not(.tiles b)').length")
        == 0
    )
    assert "owned" not in browser.evaluate("document.title")


def test_run_shows_its_receipt_and_manifest(browser, site):
    browser.open(f"{site}#/run/170301_0015")
    browser.until("document.querySelector('#run details')")
    browser.click("#run summary")
    shown = browser.text("#run")
    for text in (
        "midway/170301_0015.raw.done",
        "from lngs, hashed at both ends",
        "98.0 MB/s",
        "<i>one</i>.zip",
    ):
        assert text in shown


def test_unknown_run_is_said_to_be_unknown(browser, site):
    for name in ("170301_0016", "../../etc/passwd"):
        browser.open("about:blank")
        browser.open(f"{site}#/run/{name}")
        browser.until("document.querySelector('#run h2')")
        assert "no such run" in browser.text("#run")
    # The day's file of a day without runs is not there, and the browser says so.
    browser.errors.clear()


def test_works_without_a_mouse(runs):
    runs.press("/", "Slash", 191, text="/")
    runs.until("document.activeElement.name === 'q'")
    for letter in "messy":
        runs.press(letter, text=letter)
    expected = sum({"name": "messy"} in document["tags"] for document in documents(1500))
    assert runs.text("#found") == f"{expected} of 1,500 runs"
    # Tab leads through the filters to the head of the table, Enter sorts.
    for _ in range(20):
        runs.press("Tab", number=9)
        if runs.evaluate("document.activeElement.dataset.sort === 'bytes'"):
            break
    runs.press("Enter", number=13, text="\r")
    assert runs.evaluate("document.querySelector('[data-sort=bytes]').closest('th').ariaSort") == "descending"
    assert runs.evaluate("document.activeElement.dataset.sort") == "bytes"
    assert runs.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.parametrize("view", ["#/", "#/runs", "#/run/170301_0015"])
def test_fits_a_phone(browser, site, pictures, view):
    browser.screen(390, 844)
    browser.open("about:blank")
    browser.open(site + view)
    if view == "#/runs":
        browser.until("caxflow.runs.complete")
    elif view != "#/":
        browser.until("document.querySelector('#run h2')")
    assert browser.evaluate("document.documentElement.scrollWidth") == 390
    # Of a run, nothing lies beside the screen either.
    beside = "[...document.querySelectorAll('#run .wide')].every((e) => e.scrollWidth <= e.clientWidth)"
    assert browser.evaluate(beside)
    browser.picture(pictures / f"phone-{view.split('/')[1] or 'overview'}.png")


def test_prints_without_what_cannot_be_pressed(runs, pictures):
    runs.screen(1000, 1300, print_=True)
    for selector in ("#filters", "#pager", "header nav"):
        assert runs.evaluate(f"getComputedStyle(document.querySelector('{selector}')).display") == "none"
    assert len(names(runs)) == 100
    runs.picture(pictures / "runs-print.png")


def test_light_and_dark_are_readable(runs, pictures):
    """Text keeps a contrast of 4.5 to its ground, as WCAG AA asks."""
    contrast = """(() => {
      const light = (colour) => { const [r, g, b] = colour.match(/[\\d.]+/g).map((part) => {
        const v = part / 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
        return .2126 * r + .7152 * g + .0722 * b; };
      const ground = (e) => { for (; e; e = e.parentElement) {
        const c = getComputedStyle(e).backgroundColor; if (!c.endsWith(', 0)')) return c; } };
      const shown = document.querySelectorAll('#runs a, #runs td, #runs label, #found, .state.f, h1 span');
      return Math.min(...[...shown].map((e) => {
        const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
        return (a + .05) / (b + .05); }));
    })()"""
    for dark in (False, True):
        runs.screen(1280, 1000, dark=dark)
        runs.until(f"matchMedia('(prefers-color-scheme: dark)').matches === {str(dark).lower()}")
        assert runs.evaluate(contrast) > 4.5
        runs.picture(pictures / f"runs-{'dark' if dark else 'light'}.png")


@pytest.mark.parametrize("many", [10_000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_very_many_runs(browser, settings, tmp_path, pictures, many):
    folder = tmp_path / "page"
    kr83m = 0

    def counted():
        nonlocal kr83m
        for document in documents(many, apart=3):
            kr83m += document["source"]["type"] == "Kr83m"
            yield document

    assert page.write(counted(), settings, folder, tmp_path, NOW) == many
    browser.screen(1280, 1000)
    browser.open(f"file://{folder}/index.html#/runs")
    browser.until("caxflow.runs.complete")
    assert browser.text("#found") == f"{many:,} runs"
    # Only a page of them is in the document, whatever is asked.
    runs = browser
    runs.choose("q", "kr83m")
    assert runs.text("#found") == f"{kr83m:,} of {many:,} runs"
    runs.click("[data-sort=bytes]")
    runs.click("[data-page=last]")
    assert len(names(runs)) <= 100
    assert runs.evaluate("document.querySelectorAll('#table tr').length") <= 101
    # The oldest run opens, and only its own day is loaded for it.
    oldest = NOW - datetime.timedelta(minutes=3 * (many - 2) + 5)
    runs.open(f"file://{folder}/index.html#/run/{oldest:%y%m%d_%H%M}")
    runs.until("document.querySelector('#run h2')")
    assert "Copies" in runs.text("#run")
    assert runs.evaluate("Object.keys(caxflow.days).length") == 1
    runs.picture(pictures / f"oldest-of-{many}.png")


def test_refresh_rewrites_only_what_changed(settings, work_dir, tmp_path):
    folder = tmp_path / "page"
    page.write(documents(300), settings, folder, work_dir, NOW)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.js")}
    changed = list(documents(300))
    changed[-1]["comments"] = [{"text": "new"}]
    page.write(changed, settings, folder, work_dir, NOW)
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*.js")}
    different = [path.name for path in after if after[path] != before.get(path)]
    assert different == [f"{changed[-1]['name'][:6]}.js"]
    assert not list(folder.rglob("*.part"))


def test_receipts_of_all_runs_are_there_and_only_new_ones_are_read(settings, tmp_path, monkeypatch):
    work, folder = tmp_path / "work", tmp_path / "page"
    (work / "midway").mkdir(parents=True)
    runs = list(documents(3000))
    oldest, newest = runs[-1]["name"], runs[0]["name"]
    for name in (oldest, newest):
        (work / f"midway/{name}.raw.done").write_text(json.dumps({"source": "lngs", "rate": 1e8}))
    page.write(runs, settings, folder, work, NOW)
    assert '"source":"lngs"' in (folder / f"data/receipts/{oldest[:6]}.js").read_text()
    read = []
    monkeypatch.setattr(stated, "from_work_dir", lambda _, run, __: read.append(str(run)) or {})
    (work / f"midway/{newest}.checksum").touch()
    page.write(runs, settings, folder, work, NOW)
    assert read == [newest]
    (work / f"midway/{oldest}.raw.done").unlink()
    page.write(runs, settings, folder, work, NOW)
    assert [path.stem for path in (folder / "data/receipts").iterdir()] == [newest[:6]]


def test_accounts_and_the_work_directory_are_not_on_it(settings, tmp_path):
    folder, work = tmp_path / "page", tmp_path / "a & b" / "work"
    (work / "midway").mkdir(parents=True)
    (run,) = documents(1)
    lease, by = NOW + datetime.timedelta(hours=1), {"user": "xenon", "host": "login1", "pid": 4, "started": 5}
    copy = {"host": HOSTS["midway"], "type": "raw", "location": "/d/x", "creation_time": NOW}
    run["data"] += [
        copy | {"status": "transferring", "caxflow": {"owner": "midway", "lease": lease, "by": by}},
        copy
        | {
            "host": HOSTS["nikhef"],
            "status": "error",
            "caxflow": {"owner": "midway", "error": f"read {work}/logs/a.log; removed by xenon@login1.org"},
        },
    ]
    assert page.write([run], settings, folder, work, NOW) == 1
    text = "".join(path.read_text() for path in folder.rglob("*") if path.is_file())
    assert "being made by midway, claimed until" in text
    assert "read logs/a.log; removed by another process" in text
    assert "login1" not in text.replace(HOSTS["midway"], "")
    assert str(tmp_path) not in text.replace(str(DATA["lngs"]), "")


def test_loads_nothing_from_elsewhere(site):
    """Every address in the page is its own; and the browser is told to refuse others."""
    folder = site.removeprefix("file://").removesuffix("/index.html")
    text = (Path(folder) / "index.html").read_text()
    assert "http://" not in text.replace("http-equiv", "")
    assert "https://" not in text
    assert POLICY in text
    assert "default-src 'none'" in POLICY
    # What that does not stand for.
    assert "base-uri 'none'" in POLICY
    assert "form-action 'none'" in POLICY
