"""How the page of a comparison looks, light and dark, and the one script in it: a click on a column's head
sorts the table.
"""

from __future__ import annotations

import base64
import hashlib

LIGHT = (
    "#1769aa",
    "#c2571a",
    "#1b7f5c",
    "#9b3f97",
    "#b58900",
    "#2a9db5",
    "#b3344d",
    "#6a6f00",
    "#6d5bd0",
    "#6b6b6b",
)
DARK = (
    "#6cb2f2",
    "#f09a5e",
    "#57c79c",
    "#d98ad6",
    "#e0c050",
    "#66cfe4",
    "#ef7d92",
    "#b9c04a",
    "#a99cf5",
    "#b0b0b0",
)
"""Of groups, in order; kdx.report.compare.svg counts on as many."""


def _named(colours: tuple[str, ...]) -> str:
    return " ".join(f"--c{i}: {c};" for i, c in enumerate(colours))


STYLE = (
    f"""
:root {{ color-scheme: light dark; --paper: #ffffff; --ink: #1c2128; --grid: #d5dae1; --soft: #f4f6f8; --warn: #fff3e0; {_named(LIGHT)} }}
@media (prefers-color-scheme: dark) {{
  :root {{ --paper: #14181d; --ink: #e4e8ee; --grid: #39424e; --soft: #1d232b; --warn: #3a2a12; {_named(DARK)} }}
}}
"""  # noqa: E501
    + """
body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, "DejaVu Sans", Verdana, sans-serif;
  max-width: 1860px; margin: 1.5rem auto; padding: 0 1.2rem; }
p, ul, dl { max-width: 60rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .4rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .35rem; border-bottom: 1px solid var(--grid); text-align: right; white-space: nowrap; }
th { vertical-align: bottom; }
.broken th { white-space: normal; max-width: 8rem; }
th.name, td.name { text-align: left; }
td.name { font-family: ui-monospace, "DejaVu Sans Mono", monospace; white-space: normal; min-width: 11rem; overflow-wrap: anywhere; }
small { display: block; font: .92em system-ui, "DejaVu Sans", Verdana, sans-serif; opacity: .75; }
th small { font-weight: 400; }
tbody tr:hover { background: var(--soft); }
th button { all: unset; cursor: pointer; font-weight: 600; display: block; width: 100%; }
th button:hover { text-decoration: underline; }
th button:focus-visible { outline: 2px solid currentColor; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
i { display: inline-block; width: .8em; height: .8em; border-radius: 50%; margin-right: .45em; }
ul.warnings { background: var(--warn); padding: .7rem 1rem .7rem 2rem; border-radius: 6px; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 590px), 1fr)); column-gap: 1.5rem; }
figure { margin: 0; }
figure svg text { font-family: "DejaVu Sans", Verdana, sans-serif; }
figure svg { max-width: 100%; height: auto; }
figcaption { max-width: 46rem; font-size: .9rem; }
ul.key { list-style: none; padding: 0; margin: .2rem 0 .6rem; font: .8rem ui-monospace, "DejaVu Sans Mono", monospace; }
ul.key li { display: inline-block; margin-right: 1.4rem; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; }
dl.words { font-size: .88rem; max-width: 76rem; } dl.words dt { font-weight: 400; opacity: .75; }
dt { font-weight: 600; }
dd { margin: 0; overflow-wrap: anywhere; }
details { margin: 1rem 0; }
"""  # noqa: E501
    + "\n".join(f".c{i} {{ background: var(--c{i}); }}" for i in range(len(LIGHT)))
    + "\n"
)

SCRIPT = """
for (const table of document.querySelectorAll("table.sorts")) table.querySelectorAll("th").forEach((th, column) => {
  th.querySelector("button").addEventListener("click", () => {
    const up = th.getAttribute("aria-sort") !== "ascending", body = table.tBodies[0];
    const key = row => row.cells[column].dataset.v;
    const order = (a, b) => a === b ? 0 : a === "" ? 1 : b === "" ? -1 :
      (up ? 1 : -1) * (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);
    [...body.rows].sort((a, b) => order(key(a), key(b))).forEach(row => body.append(row));
    table.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
    th.setAttribute("aria-sort", up ? "ascending" : "descending");
  });
});
"""  # noqa: E501
HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; script-src 'sha256-{HASH}'"  # noqa: E501
"""Only that script runs, known by its hash; nothing is fetched. Styles may stand anywhere, as those of the
figures are attributes.
"""
