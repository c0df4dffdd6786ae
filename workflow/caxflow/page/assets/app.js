"use strict";
/* Which view the address asks for: #/ , #/runs?… , #/run/160315_1432 */
{
  const views = ["overview", "runs", "run"];

  function open() {
    const [, view = "", rest = ""] = /^#\/(runs|run)?(?:[?/](.*))?$/.exec(location.hash) || [];
    const shown = view || "overview";
    for (const name of views) document.getElementById(name).hidden = name !== shown;
    for (const link of document.querySelectorAll("header nav a")) {
      const here = link.dataset.view === (shown === "run" ? "runs" : shown);
      if (here) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
    }
    document.title = shown === "run" ? `Run ${decodeURIComponent(rest)}` : `Runs at ${caxflow.meta.here}`;
    if (shown === "runs") caxflow.table.open(rest);
    if (shown === "run") { caxflow.run.open(decodeURIComponent(rest)); window.scrollTo(0, 0); }
  }

  window.addEventListener("hashchange", () => {
    if (location.hash === "#main") return;
    open();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (["INPUT", "SELECT", "TEXTAREA"].includes(document.activeElement.tagName)) return;
    event.preventDefault();
    if (document.getElementById("runs").hidden) location.hash = "#/runs";
    setTimeout(() => document.querySelector("#filters input").focus());
  });
  open();
}
