"use strict";
/* All runs in memory, one array a column, newest first; filled month by month. Texts from the database reach
   the page as text nodes only (see `element`), never as HTML. */
const caxflow = { meta: JSON.parse(document.getElementById("meta").textContent), days: {} };

caxflow.STATES = {
  d: "done", a: "to do", m: "moving", w: "waits", f: "failed", t: "being taken", o: "odd", x: "left out",
};
caxflow.COPIES = {
  p: ["proven", "●", "caxflow read its bytes from disk, and they equal the origin's"],
  c: ["copied", "◐", "there, but not read again by caxflow"],
  v: ["verifying", "◔", "copied, and not read again yet"],
  m: ["transferring", "→", "being made, moved or removed"],
  e: ["error", "✕", "the last attempt failed, it differs from the origin, or it is not in its place"],
};

/* An element with a class, attributes and children; strings become text. */
caxflow.element = function (name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value);
  }
  for (const child of children) {
    if (child !== null && child !== undefined && child !== "") made.append(child);
  }
  return made;
};

caxflow.bytes = function (count) {
  if (count === null || count === undefined) return "";
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (count < 1000) return (unit === "B" ? count : count.toFixed(1)) + " " + unit;
    count /= 1000;
  }
  return count.toFixed(1) + " TB";
};

caxflow.start = function (name) {
  return `20${name.slice(0, 2)}-${name.slice(2, 4)}-${name.slice(4, 6)} ${name.slice(7, 9)}:${name.slice(9, 11)}`;
};

{
  const meta = caxflow.meta;
  const sites = new Map(meta.sites.map((site) => [site.host, site.name]));
  const columns = {
    name: [], number: [], source: [], tags: [], bytes: [], events: [], seconds: [], state: [], copies: [],
    text: [],
  };
  const words = { hosts: meta.sites.map((site) => site.host), sources: [], tags: [] };
  const numbers = {};
  for (const kind in words) numbers[kind] = new Map(words[kind].map((word, number) => [word, number]));

  function number(kind, word) {
    if (!numbers[kind].has(word)) {
      numbers[kind].set(word, words[kind].length);
      words[kind].push(word);
    }
    return numbers[kind].get(word);
  }

  /* Each month comes with its own words; here they get numbers that hold for all. */
  function add(month) {
    const of = {};
    for (const kind in words) of[kind] = month[kind].map((word) => number(kind, word));
    const width = words.hosts.length;
    for (const row of month.rows) {
      const [name, runNumber, source, tags, bytes, events, seconds, state, where, failed = []] = row;
      let copies = where;
      if (of.hosts.some((to, from) => to !== from)) {
        const cells = new Array(2 * width).fill("-");
        for (let at = 0; at < where.length; at++) cells[2 * of.hosts[at >> 1] + (at & 1)] = where[at];
        copies = cells.join("");
      }
      columns.name.push(name);
      columns.number.push(runNumber);
      columns.source.push(of.sources[source]);
      columns.tags.push(tags.map((tag) => of.tags[tag]));
      columns.bytes.push(bytes);
      columns.events.push(events);
      columns.seconds.push(seconds);
      columns.state.push(state);
      columns.copies.push(copies);
      const said = [...tags.map((tag) => month.tags[tag]), ...failed.map((reason) => month.reasons[reason])].join(" ");
      columns.text.push(`${name} ${runNumber ?? ""} ${said} ${month.sources[source]}`.toLowerCase());
    }
  }

  const listeners = {};
  let loading = false;

  /* The months one after the other, newest first. */
  function next(months) {
    const month = months.shift();
    caxflow.runs.complete = !month;
    for (const progress of Object.values(listeners)) progress();
    if (!month) return;
    const script = caxflow.element("script", { src: `data/runs/${month.name}.js?${month.digest}` });
    script.onload = script.onerror = () => { script.remove(); next(months); };
    document.head.append(script);
  }

  caxflow.runs = {
    columns, words, sites,
    get count() { return columns.name.length; },
    complete: false,

    /* Load all runs; the `progress` of each view is told now and after each month. */
    load(view, progress) {
      listeners[view] = progress;
      if (loading) return progress();
      loading = true;
      caxflow.month = (name, month) => add(month);
      next([...meta.months]);
    },

    /* Rows that pass all filters, as an array of their numbers. */
    filter(wanted) {
      const found = [];
      const source = wanted.source ? numbers.sources.get(wanted.source) ?? -1 : null;
      const tag = wanted.tag ? numbers.tags.get(wanted.tag) ?? -1 : null;
      const host = wanted.site ? numbers.hosts.get(wanted.site) ?? -1 : null;
      const texts = (wanted.q || "").toLowerCase().split(/\s+/).filter(Boolean);
      const veto = wanted.detector ? wanted.detector === "muon_veto" : null;
      for (let row = 0; row < columns.name.length; row++) {
        if (veto !== null && columns.name[row].endsWith("_MV") !== veto) continue;
        if (source !== null && columns.source[row] !== source) continue;
        if (tag !== null && !columns.tags[row].includes(tag)) continue;
        if (wanted.state && columns.state[row] !== wanted.state) continue;
        if (!matches(columns.copies[row], host, wanted.copy)) continue;
        if (!texts.every((text) => columns.text[row].includes(text))) continue;
        found.push(row);
      }
      return found;
    },

    /* Sort row numbers by a column; equal values stay newest first, missing ones come last. */
    sort(rows, column, down) {
      const key = keys[column] || keys.name;
      const values = rows.map(key);
      const order = rows.map((_, index) => index);
      const sign = down ? -1 : 1;
      order.sort((one, other) => {
        const a = values[one], b = values[other];
        if (a === b) return rows[one] - rows[other];
        if (a === null) return 1;
        if (b === null) return -1;
        return a < b ? -sign : sign;
      });
      return order.map((index) => rows[index]);
    },
  };

  /* Whether a row has a copy in the wanted state, at the wanted host or at any; "none" is no copy at all. */
  function matches(copies, host, wanted) {
    if (host === null && !wanted) return true;
    const seen = host === null ? copies : copies.slice(2 * host, 2 * host + 2);
    const there = [...seen].filter((letter) => letter !== "-");
    if (wanted === "none") return there.length === 0;
    return wanted ? there.includes(wanted) : there.length > 0;
  }

  const rank = "fomatwdx";
  const keys = {
    name: (row) => columns.name[row],
    number: (row) => columns.number[row],
    source: (row) => words.sources[columns.source[row]],
    tags: (row) => columns.tags[row].map((tag) => words.tags[tag]).join(" ") || null,
    bytes: (row) => columns.bytes[row],
    events: (row) => columns.events[row],
    seconds: (row) => columns.seconds[row],
    state: (row) => rank.indexOf(columns.state[row]),
  };
  meta.sites.forEach((site, host) => {
    keys[`site:${site.name}`] = (row) => {
      const letters = columns.copies[row].slice(2 * host, 2 * host + 2);
      return [..."evmcp"].reduce((best, letter, at) => (letters.includes(letter) ? at + 1 : best), 0);
    };
  });
}
