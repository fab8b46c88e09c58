"""report.html: a run as one page made for reading, from what report.md says. It holds its figures and one
style, needs no network, and runs no script."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdx.core.errors import printable
from kdx.report.run.canvas import PIXELS, WIDE
from kdx.report.run.markdown import Cells, heading, paragraphs, report
from kdx.report.run.sentences import result_sentences

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
REPORTS = ("report.md", "report.html")
_RESULTS = "## Results"
_SHOWN = ("curves-validation", "reliability", "predictions", "confusion", "sessions", "prequential", "curves")
"""What the names of figures begin with that are seen at once, in this order, three of them; the others are
folded."""
_FIRST_SENTENCES = 2
"""Of the results, which say what distillation was worth."""
_EXPLAINED = {
    "reliability": "On the grey line a network is as often right as it is sure; below it, it is too sure.",
    "confusion": "Each row is a true class, each column what the network takes it for; red: errors.",
}
"""What the names of figures begin with -> how to read them."""
_FEW_WARNINGS = 2
"""So many stand above the table, which would else be far down; the others below it."""
_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c2128; --grid: #d5dae1; --soft: #f4f6f8; --warn: #fff3e0; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14181d; --ink: #e4e8ee; --grid: #39424e; --soft: #1d232b; --warn: #3a2a12; }
  img { filter: brightness(.88); }
}
body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, "DejaVu Sans", Verdana, sans-serif;
  max-width: 1720px; margin: 1.5rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.5rem; margin-bottom: .3rem; }
p, ul, pre, blockquote { max-width: 60rem; }
.verdict { font-size: 1.25rem; line-height: 1.4; margin: .6rem 0 1rem; }
blockquote { background: var(--warn); margin: .6rem 0; padding: .1rem 1rem; border-radius: 6px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; margin: .6rem 0; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--grid); text-align: left; overflow-wrap: anywhere; }
th { vertical-align: bottom; overflow-wrap: normal; }
tbody tr:hover { background: var(--soft); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1.2rem 2rem; }
.beside { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 34rem), 1fr)); gap: 0 2rem; }
.beside td:first-child { white-space: nowrap; } .beside th, .beside td { padding: .3rem .4rem; }
.warned { background: var(--warn); padding: .3rem 1rem; border-radius: 6px; }
figcaption small { display: block; font-size: .85rem; opacity: .8; }
figure { margin: 0; } figure.broad { grid-column: 1 / -1; } figcaption { font-size: .9rem; }
img { max-width: 100%; height: auto; border-radius: 4px; }
details { border-top: 1px solid var(--grid); padding: .5rem 0; }
summary { cursor: pointer; font-weight: 600; }
details details { border: 0; padding: .1rem 0; } details details summary { font-weight: 400; }
pre, code { background: var(--soft); border-radius: 4px; font: .85rem ui-monospace, "DejaVu Sans Mono", monospace; }
pre { padding: .6rem .8rem; overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; } code { padding: 0 .25em; }
"""  # noqa: E501


def reports(
    run: Mapping[str, Any],
    place: Path,
    figures: Mapping[str, str],
    artifacts: Mapping[str, str],
    examples: Cells | None = None,
    called: str = "",
) -> dict[str, str]:
    """File -> text. place: where the figures are, the run folder. called: that as the user would type it; of
    the others see kdx.report.run.markdown.report."""
    folder = called or str(place)
    texts = (
        report(run, folder, figures, artifacts, examples),
        _page(run, place, figures, paragraphs(run, folder, artifacts, examples)),
    )
    return dict(zip(REPORTS, texts, strict=True))


def _page(run: Mapping[str, Any], place: Path, figures: Mapping[str, str], parts: Sequence[str]) -> str:
    """parts: of the report, in Markdown."""
    title = heading(run)
    ended, *others = _chapters(parts)
    results = next((chapter for chapter in others if chapter[0] == _RESULTS), None)
    shown, more = _split(figures)
    body = [f"<h1>{_inline(title)}</h1>"]
    if results:
        shown = dict(sorted(shown.items(), key=lambda one: _width(place / one[1]) > WIDE))  # side by side
        narrow = [c for c, path in shown.items() if 0 < _width(place / path) <= WIDE]
        figure = _grid(place, {narrow[0]: shown.pop(narrow[0])} if len(narrow) == 1 else {})
        told, table, text = _at_table(_without_verdict(run, results[1:]))
        below = [*told[_FEW_WARNINGS:], *text]
        text = f'<div class="beside"><div>{_html(below)}</div>{figure}</div>' if figure else _html(below)
        body += [_verdict(run), _html(told[:_FEW_WARNINGS]), _more_below(len(told)), _html(table), text]
        body += [_grid(place, shown), _folded("The run", ended)]
    else:
        body += [_html(ended), _grid(place, shown)]
    body += [_folded(chapter[0][3:], chapter[1:]) for chapter in others if chapter is not results]
    if more:
        body.append(f"<details><summary>More figures</summary>{_grid(place, more)}</details>")
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_inline(title)}</title>",
            f"<style>{_STYLE}</style></head><body>",
            *(part for part in body if part),
            "</body></html>\n",
        ]
    )


def _chapters(parts: Sequence[str]) -> list[list[str]]:
    """The paragraphs before the first title, then each title with its own."""
    found: list[list[str]] = [[]]
    for part in parts:
        if part.startswith("## "):
            found.append([])
        found[-1].append(part)
    return found


def _sentences(run: Mapping[str, Any]) -> list[str]:
    numbers = run.get("results")
    return result_sentences(numbers, numbers.get("headline", "last")) if numbers else []


def _verdict(run: Mapping[str, Any]) -> str:
    """What distillation was worth, before all else."""
    first = " ".join(_sentences(run)[:_FIRST_SENTENCES])
    return f'<p class="verdict">{html.escape(printable(first))}</p>' if first else ""


def _without_verdict(run: Mapping[str, Any], parts: Sequence[str]) -> list[str]:
    """The paragraphs of the results, whose list of sentences begins with those that stand above."""
    count = min(_FIRST_SENTENCES, len(_sentences(run)))
    found = []
    for part in parts:
        if count and part.startswith("- "):
            part, count = "\n".join(part.split("\n")[count:]), 0
        found.append(part)
    return [part for part in found if part]


def _at_table(parts: Sequence[str]) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
    """(the warnings, the table with the words about it, what follows)"""
    told = [part for part in parts if part.startswith("> ")]
    others = [part for part in parts if not part.startswith("> ")]
    place = next((i for i, part in enumerate(others) if part.startswith("|")), -2) + 2
    return told, others[:place], others[place:]


def _more_below(warnings: int) -> str:
    """That there are more warnings than stand above the table."""
    more = warnings - _FEW_WARNINGS
    said = f"{more} more {'warning stands' if more == 1 else 'warnings stand'} below the table."
    return f'<p class="warned">{said}</p>' if more > 0 else ""


def _width(figure: Path) -> int:
    """Of a PNG, on a screen of low density; 0 where it cannot be read."""
    try:
        with figure.open("rb") as file:
            return int.from_bytes(file.read(20)[16:], "big") // PIXELS
    except OSError:
        return 0


def _split(figures: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """(those that are seen at once, the others), caption -> path."""
    first: list[str] = []
    for name in _SHOWN:
        match = (c for c, path in figures.items() if Path(path).name.startswith(name) and c not in first)
        if len(first) < 3 and (caption := next(match, None)):
            first.append(caption)
    return {c: figures[c] for c in first}, {c: path for c, path in figures.items() if c not in first}


def _grid(place: Path, figures: Mapping[str, str]) -> str:
    """Figures within the page; one that cannot be read is left out."""
    shown = []
    for caption, path in figures.items():
        try:
            data = (place / path).read_bytes()
        except OSError:
            continue
        width = _width(place / path)
        broad = ' class="broad"' if width > WIDE else ""
        words = html.escape(printable(caption), quote=True)
        known = (how for name, how in _EXPLAINED.items() if Path(path).name.startswith(name))
        how = "".join(f"<small>{html.escape(text)}</small>" for text in known)
        source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
        shown.append(
            f"<figure{broad}><figcaption>{words}{how}</figcaption>"
            f'<img width="{width}" alt="{words}" src="{source}"></figure>'
        )
    return f'<div class="figures">{"".join(shown)}</div>' if shown else ""


def _folded(title: str, parts: Sequence[str]) -> str:
    return f"<details><summary>{_inline(title)}</summary>\n{_html(parts)}</details>"


def _html(parts: Sequence[str]) -> str:
    """Of Markdown in which names cannot become markup."""
    made: str = _reader().render("\n\n".join(parts))
    return made.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")


def _inline(text: str) -> str:
    made: str = _reader().renderInline(text)
    return made


def _reader() -> Any:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": True}).enable("table")
