"use strict";
/* The page of one run, from its day's file. */
{
  const { element } = caxflow;
  const section = document.getElementById("run");
  const receiptsOf = {};

  function time(text) { return text ? text.replace("T", " ").replace(/(:\d\d)(:\d\d)?(\+00:00)?$/, "$1") : ""; }

  function facts(pairs) {
    const list = element("dl", { class: "facts" });
    for (const [name, value] of pairs) {
      if (value === null || value === undefined || value === "") continue;
      list.append(element("div", null, element("dt", null, name), element("dd", null, value)));
    }
    return list;
  }

  function part(title, ...content) {
    return element("section", { class: "card" }, element("h3", null, title), ...content);
  }

  function table(heads, rows) {
    return element("div", { class: "wide" }, element("table", null,
      element("thead", null, element("tr", null, ...heads.map((head) => element("th", { scope: "col" }, head)))),
      element("tbody", null, ...rows)));
  }

  function copies(run) {
    if (!run.copies.length) return element("p", { class: "nothing" }, "The database knows of no copy.");
    const rows = run.copies.map((copy) => {
      const [, glyph] = caxflow.COPIES[copy.state] || ["", "?"];
      const told = [];
      if (copy.verified) told.push(`read again ${time(copy.verified)}`);
      if (copy.owner) told.push(`made by ${copy.owner}`);
      if (copy.caxflow) told.push(`caxflow ${copy.caxflow}`);
      if (copy.lease) told.push(`claimed until ${time(copy.lease)}`);
      if (copy.attempts) told.push(`failed ${copy.attempts} time${copy.attempts === 1 ? "" : "s"}`);
      if (copy.next) told.push(`again at ${time(copy.next)}`);
      return element("tr", null,
        element("td", null, copy.kind, copy.version ? ` ${copy.version}` : ""),
        element("td", null, copy.site || copy.host),
        element("td", { class: "whole" }, element("span", { class: `copy ${copy.state}`, "aria-hidden": "true" }, glyph), ` ${copy.word}`),
        element("td", { class: "whole" }, time(copy.created)),
        element("td", { class: "path" }, copy.location,
          copy.manifest ? element("small", null, copy.manifest) : null,
          copy.checksum ? element("small", null, copy.checksum) : null,
          told.length ? element("small", null, told.join(", ")) : null,
          copy.error ? element("small", { class: "error" }, copy.error) : null));
    });
    return table(["Data", "Site", "State", "Made", "Where, and how it is known"], rows);
  }

  function failure(trouble) {
    const tried = trouble.attempts ? `, ${trouble.attempts} attempt${trouble.attempts === 1 ? "" : "s"}` : "";
    const later = trouble.next ? `next attempt from ${time(trouble.next)} on`
      : trouble.watched ? "`all` looks at it again once its files, or its run document, change"
      : trouble.attempts ? "it waits for a human: mend the cause, then ask for its target by name" : "";
    return element("li", null,
      element("span", { class: "error" }, `failed: ${trouble.where}${tried}${trouble.at ? ", " + time(trouble.at) : ""}`),
      element("div", null, trouble.reason),
      later ? element("small", null, later) : null,
      trouble.log ? element("small", null, `log: ${trouble.log}`) : null);
  }

  function why(run) {
    const list = element("ul", { class: "why" }, ...run.troubles.map(failure));
    for (const reason of run.why) list.append(element("li", null, reason));
    if (run.todo.length) {
      list.append(element("li", null, `all at ${caxflow.meta.here} makes `, ...run.todo.map((target) => element("code", null, target))));
    }
    for (const { where, reason } of run.elsewhere) {
      list.append(element("li", null, `${where}, which is not the business of ${caxflow.meta.here}, failed: ${reason}`));
    }
    return list;
  }

  function receipts(run) {
    return table(["Fact", "When", "How it was proven"], run.receipts.map((receipt) => {
      const said = [receipt.source ? `from ${receipt.source}` : "", receipt.proof || "",
        caxflow.bytes(receipt.bytes), receipt.rate ? `${caxflow.bytes(receipt.rate)}/s` : "",
        receipt.caxflow ? `caxflow ${receipt.caxflow}` : ""].filter(Boolean).join(", ");
      return element("tr", null, element("td", null, element("code", null, `${receipt.site}/${run.run}.${receipt.stage}`)),
        element("td", null, time(receipt.at)), element("td", null, said));
    }));
  }

  function settings(found) {
    return facts(Object.entries(found).map(([key, value]) =>
      [key.replaceAll("_", " "), value !== null && typeof value === "object"
        ? Object.entries(value).map(([name, inner]) => `${name} ${inner}`).join(", ") : String(value ?? "")]));
  }

  function manifest(found) {
    const rows = found.files.map(([path, size, digest]) => element("tr", null, element("td", { class: "path" }, path),
      element("td", { class: "number" }, caxflow.bytes(size)), element("td", { class: "path" }, digest)));
    return element("details", null,
      element("summary", null, `${found.count} files, ${found.digest}`), table(["File", "Size", "Digest"], rows));
  }

  function show(run) {
    const processed = run.copies.filter((copy) => copy.kind !== "raw" && copy.version);
    const versions = [...new Set(processed.map((copy) => copy.version))].join(", ");
    const parts = [
      element("p", { class: "back" }, element("a", { href: "#/runs" }, "← all runs")),
      element("h2", null, run.run, element("small", null, run.detector.replace("_", " "))),
      facts([
        ["Number", run.number === null || run.number === undefined ? "" : String(run.number)],
        ["Taken", `${time(run.start)}${run.end ? " to " + time(run.end) : ""}`], ["By", run.user],
        ["Source", run.source], ["Mode", run.reader],
        ["Events", run.events === null || run.events === undefined ? "" : run.events.toLocaleString("en")],
        ["Raw data", caxflow.bytes(run.bytes)], ["Processed with", versions], ["Tags", run.tags.join(", ")],
      ]),
      part("Why it is where it is", element("p", { class: "said" }, run.said), why(run)),
      part("Copies", copies(run)),
    ];
    if (run.comments.length) {
      parts.push(part("Comments", ...run.comments.map((comment) => element("blockquote", null, comment.text,
        element("small", null, [comment.user, time(comment.at)].filter(Boolean).join(", "))))));
    }
    parts.push(part("History", element("ol", { class: "history" }, ...run.history.map(([at, what]) =>
      element("li", null, element("time", null, time(at)), what)))));
    if (run.receipts && run.receipts.length) parts.push(part("Receipts at " + caxflow.meta.here, receipts(run)));
    if (run.manifest) parts.push(part("Manifest", manifest(run.manifest)));
    if (run.settings) parts.push(part("Settings for processing", settings(run.settings)));
    else if (Object.keys(run.corrections).length) {
      parts.push(part("Corrections", facts(Object.entries(run.corrections))));
    }
    section.replaceChildren(...parts);
  }

  function missing(name) {
    section.replaceChildren(
      element("p", { class: "back" }, element("a", { href: "#/runs" }, "← all runs")),
      element("h2", null, name),
      element("p", { class: "nothing" }, "The runs database had no such run when this page was written."));
  }

  /* Go to the run of a number, as soon as its month is there; all runs of the muon veto have number 0. */
  function byNumber(number) {
    const asked = location.hash;
    const look = () => {
      if (location.hash !== asked) return;
      const row = number ? caxflow.runs.columns.number.indexOf(number) : -1;
      if (row >= 0) location.replace(`#/run/${caxflow.runs.columns.name[row]}`);
      else if (caxflow.runs.complete) missing(`Run ${number}`);
    };
    caxflow.runs.load("run", look);
  }

  /* A day's file of one kind, loaded once; then what it told is in `kept`. */
  function load(kind, day, kept, then) {
    if (kept[day]) return then();
    const script = element("script", { src: `data/${kind}/${day}.js?${encodeURIComponent(caxflow.meta.written)}` });
    script.onload = script.onerror = () => { script.remove(); then(); };
    document.head.append(script);
  }

  caxflow.day = (which, found) => { caxflow.days[which] = found; };
  caxflow.stated = (which, found) => { receiptsOf[which] = found; };

  caxflow.run = {
    open(name) {
      section.replaceChildren();
      const day = name.slice(0, 6);
      if (/^\d+$/.test(name)) return byNumber(Number(name));
      if (!/^\d{6}_\d{4}(_MV)?$/.test(name)) return missing(name);
      // What was asked for meanwhile is not replaced by what comes late.
      const asked = location.hash;
      load("days", day, caxflow.days, () => {
        if (location.hash !== asked) return;
        const run = (caxflow.days[day] || []).find((one) => one.run === name);
        if (!run) return missing(name);
        show(run);
        if (run.stated) load("receipts", day, receiptsOf, () => {
          const stated = (receiptsOf[day] || {})[name];
          if (stated && location.hash === asked) show({ ...run, ...stated });
        });
      });
    },
  };
}
