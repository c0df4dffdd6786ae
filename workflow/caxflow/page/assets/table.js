"use strict";
/* The table of runs: a page of a hundred rows at a time, filtered and sorted in memory. */
{
  const { element, runs, meta } = caxflow;
  const PAGE = 100;
  const form = document.getElementById("filters");
  const body = document.querySelector("#table tbody");
  const found = document.getElementById("found");
  const pager = document.getElementById("pager");
  const HEADS = [
    ["name", "Run"], ["number", "Number", "extra number"], ["state", "State"], ["source", "Source", "extra"],
    ["tags", "Tags", "extra"], ["events", "Events", "extra number"], ["bytes", "Raw", "roomy number"],
    ...meta.sites.map((site) => [`site:${site.name}`, site.name, "site"]),
    [null, "Elsewhere", "extra"],
  ];
  let rows = [], page = 0, sorted = "name", down = true, wanted = {};

  function head() {
    const line = document.querySelector("#table thead tr");
    line.replaceChildren(...HEADS.map(([key, title, kind]) => {
      const order = key === sorted ? (down ? "descending" : "ascending") : null;
      const inside = key
        ? element("button", { type: "button", "data-sort": key }, title, element("i", { "aria-hidden": "true" }))
        : title;
      return element("th", { scope: "col", class: kind, "aria-sort": order }, inside);
    }));
  }

  function copy(letter, kind, where) {
    if (letter === "-" || letter === undefined) return element("span", { class: "copy none" }, "·");
    const [name, glyph] = caxflow.COPIES[letter];
    const title = `${kind} ${where ? "at " + where + " " : ""}${name}`;
    return element("span", { class: `copy ${letter}`, role: "img", "aria-label": title, title }, glyph);
  }

  function elsewhere(row) {
    const cell = element("td", { class: "extra" });
    const letters = runs.columns.copies[row];
    for (let host = meta.sites.length; 2 * host < letters.length; host++) {
      for (const at of [0, 1]) {
        const letter = letters[2 * host + at];
        if (letter === "-" || letter === undefined) continue;
        const where = runs.words.hosts[host];
        cell.append(element("span", { class: "else" }, copy(letter, at ? "processed" : "raw", where), " ", where), " ");
      }
    }
    return cell;
  }

  function line(row) {
    const c = runs.columns, name = c.name[row], state = c.state[row];
    const tags = c.tags[row].map((tag) => element("span", { class: "tag" }, runs.words.tags[tag]));
    return element("tr", null,
      element("th", { scope: "row" }, element("a", { href: `#/run/${name}` }, name),
        element("small", null, caxflow.start(name))),
      element("td", { class: "extra number" }, String(c.number[row] ?? "")),
      element("td", null, element("span", { class: `state ${state}` }, caxflow.STATES[state] || state)),
      element("td", { class: "extra" }, runs.words.sources[c.source[row]]),
      element("td", { class: "extra" }, ...tags),
      element("td", { class: "extra number" }, c.events[row] === null ? "" : c.events[row].toLocaleString("en")),
      element("td", { class: "roomy number" }, caxflow.bytes(c.bytes[row])),
      ...meta.sites.map((site, host) => element("td", { class: "site" },
        copy(c.copies[row][2 * host], "raw", site.name), copy(c.copies[row][2 * host + 1], "processed", site.name))),
      elsewhere(row));
  }

  function show() {
    const last = Math.max(Math.ceil(rows.length / PAGE) - 1, 0);
    page = Math.min(Math.max(page, 0), last);
    body.replaceChildren(...rows.slice(page * PAGE, (page + 1) * PAGE).map(line));
    const total = meta.runs.toLocaleString("en"), of = rows.length.toLocaleString("en");
    const filtered = rows.length !== runs.count;
    found.textContent = (filtered ? `${of} of ${total} runs` : `${total} runs`)
      + (runs.complete ? "" : `, ${runs.count.toLocaleString("en")} loaded so far`);
    pager.querySelector("span").textContent = `page ${(page + 1).toLocaleString("en")} of ${(last + 1).toLocaleString("en")}`;
    pager.hidden = last === 0;
    for (const button of pager.querySelectorAll("button")) {
      const back = ["first", "previous"].includes(button.dataset.page);
      button.disabled = back ? page === 0 : page === last;
    }
  }

  function refresh() {
    rows = runs.sort(runs.filter(wanted), sorted, down);
    show();
  }

  function fill(name, values) {
    const select = form.elements[name];
    const kept = select.value || wanted[name] || "";
    const first = select.options[0];
    select.replaceChildren(first, ...values.map(([value, title]) => element("option", { value }, title)));
    select.value = kept;
  }

  function choices() {
    const names = (list) => [...list].sort().map((word) => [word, word]);
    fill("source", names(runs.words.sources));
    fill("tag", names(runs.words.tags));
    fill("site", runs.words.hosts.map((host) => [host, runs.sites.get(host) || host]));
  }

  /* The address keeps filters, order and page, so that a view can be sent to somebody. */
  function remember() {
    const query = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value));
    if (sorted !== "name" || !down) query.set("sort", (down ? "-" : "") + sorted);
    if (page) query.set("page", page + 1);
    const hash = `#/runs${String(query) ? "?" + query : ""}`;
    if (location.hash !== hash) history.replaceState(null, "", hash);
  }

  function act() { refresh(); head(); remember(); }

  form.addEventListener("input", () => {
    wanted = Object.fromEntries(new FormData(form));
    page = 0;
    act();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (rows.length === 1) location.hash = `#/run/${runs.columns.name[rows[0]]}`;
  });
  form.addEventListener("reset", () => { wanted = {}; page = 0; setTimeout(act); });
  document.querySelector("#table thead").addEventListener("click", (event) => {
    const button = event.target.closest("[data-sort]");
    if (!button) return;
    const key = button.dataset.sort;
    // Names, sizes and counts are first wanted largest first, words from A, states from the worst.
    const first = ["name", "number", "bytes", "events"].includes(key);
    down = key === sorted ? !down : first;
    [sorted, page] = [key, 0];
    act();
    document.querySelector(`[data-sort="${CSS.escape(key)}"]`).focus();
  });
  pager.addEventListener("click", (event) => {
    const last = Math.ceil(rows.length / PAGE) - 1;
    const to = { first: 0, previous: page - 1, next: page + 1, last }[event.target.dataset.page];
    if (to === undefined) return;
    page = to;
    show();
    remember();
    document.getElementById("runs").scrollIntoView();
  });

  fill("state", Object.entries(caxflow.STATES));
  fill("copy", [...Object.entries(caxflow.COPIES).map(([letter, [name]]) => [letter, name]), ["none", "missing"]]);
  document.getElementById("legend").replaceChildren(
    element("li", null, "In each site's column: raw, then processed."),
    ...Object.entries(caxflow.COPIES).map(([letter, [name, glyph, meaning]]) =>
      element("li", null, element("span", { class: `copy ${letter}`, "aria-hidden": "true" }, glyph), ` ${name}: ${meaning}`)),
  );

  caxflow.table = {
    /* Show the view that the address asks for. */
    open(query) {
      const asked = new URLSearchParams(query);
      wanted = {};
      for (const field of form.elements) {
        if (!field.name) continue;
        const value = asked.get(field.name) || "";
        if (field.tagName === "SELECT" && value && ![...field.options].some((option) => option.value === value)) {
          field.append(element("option", { value }, value));
        }
        field.value = value;
        wanted[field.name] = value;
      }
      const order = asked.get("sort") || "-name";
      down = order.startsWith("-");
      sorted = order.replace(/^-/, "");
      page = (parseInt(asked.get("page"), 10) || 1) - 1;
      const asked_page = page;
      head();
      // While months come in, the page that was asked for may not be there yet.
      runs.load("table", () => { choices(); page = asked_page; refresh(); });
    },
  };
}
