"use strict";
/* Which view the address asks for: #/ , #/runs?… , #/run/160315_1432 */
{
  const views = ["overview", "runs", "run"];
  const find = document.getElementById("find");
  const OLD = 3 * 3600 * 1000; // ms

  function open() {
    const [, view = "", rest = ""] = /^#\/(runs|run)?(?:[?/](.*))?$/.exec(location.hash) || [];
    const shown = view || "overview";
    for (const name of views) document.getElementById(name).hidden = name !== shown;
    for (const link of document.querySelectorAll("header nav a")) {
      const here = link.dataset.view === (shown === "run" ? "runs" : shown);
      if (here) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
    }
    document.title = shown === "run" ? `Run ${decodeURIComponent(rest)}` : `Runs at ${caxflow.meta.here}`;
    find.hidden = shown === "runs"; // its own search finds as one types
    if (shown === "runs") caxflow.table.open(rest);
    if (shown === "run") { caxflow.run.open(decodeURIComponent(rest)); window.scrollTo(0, 0); }
  }

  /* A page that nobody writes any more must not look like a quiet night. */
  function age() {
    const old = Date.now() - Date.parse(caxflow.meta.written + "Z");
    const line = document.getElementById("age");
    const [count, unit] = old < 2 * 86400e3 ? [old / 3600e3, "hours"] : [old / 86400e3, "days"];
    line.textContent = `This page is ${Math.floor(count).toLocaleString("en")} ${unit} old: no call at ${caxflow.meta.here} has written it since.`;
    line.hidden = old < OLD;
  }

  find.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = find.elements.q.value.trim();
    const one = /^(\d{6}_\d{4}(_MV)?|[1-9]\d*)$/i.exec(text);
    if (text) location.hash = one ? `#/run/${text.toUpperCase()}` : `#/runs?${new URLSearchParams({ q: text })}`;
    find.reset();
    find.elements.q.blur();
  });
  window.addEventListener("hashchange", () => {
    if (location.hash === "#main") return;
    open();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (["INPUT", "SELECT", "TEXTAREA"].includes(document.activeElement.tagName)) return;
    event.preventDefault();
    document.querySelector(find.hidden ? "#filters input" : "#find input").focus();
  });
  open();
  age();
  setInterval(age, 60_000);
}
