#!/usr/bin/env python3
"""docs/gallery.md: one picture and one sentence of each report in docs/examples, made of these reports, so
that it shows what they show. scripts/examples.py calls it for what it has made anew.

    scripts/gallery.py            # writes the page and its pictures, docs/images/gallery
    scripts/gallery.py --check    # exit code 1 where they show something else

A picture is a plot of the report's page, with the light colours of that page written into it, as it is shown
alone; what it is of stands in `PICTURES`. The sentence is the first of its answer in docs/examples/README.md.
"""

from __future__ import annotations

import html
import re
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES, PAGE, IMAGES = ROOT / "docs/examples", ROOT / "docs/gallery.md", ROOT / "docs/images/gallery"
PICTURES = {
    "how_small": "against parameters",
    "which_temperature": "against loss.temperature",
    "which_loss": "every seed",
    "how_many_labels": "against labelled examples",
    "how_much_noise": "every seed",
    "assistant": "every seed",
}
"""Report -> what is said of the plot that is shown; where the page has none such, its first."""
NAMES = "blue orange green purple ochre cyan red olive violet grey".split()
"""Of the colours of groups, as a page has them."""
HEAD = """# Gallery

What `kdx compare` makes of a sweep: a page that opens without network. Six questions on small data,
each asked by one command, with three seeds; what came out, with its doubts, stands in
[the answers](examples/README.md). `scripts/gallery.py` makes this page and its pictures of these reports.
"""
FOOT = """## A notebook

The same from Python: [the notebook](examples/notebook.ipynb), and [how](python.md).
"""


def answer(name: str) -> tuple[str, str]:
    """(the question, the first sentence of its answer), as the page of the answers puts them."""
    answers = " ".join((EXAMPLES / "README.md").read_text(encoding="utf-8").split())
    entry = rf"\*\*\[([^]]+)\]\({name}\.md\)\*\* \(\[page\]\({name}\.html\)\) (.+?)"
    found = re.search(entry + r"(?:;|\. (?=[A-Z])|\.?$| - \*\*)", answers)
    return found[1], found[2].rstrip(".") + "."


def picture(page: str, about: str) -> tuple[str, str, str]:
    """(what it is of, how it is read, the plot as an SVG file) of the page of a report."""
    figures = {
        re.search(r'aria-label="(.*?)"', figure)[1]: figure
        for figure in re.findall(r"<figure>(.*?)</figure>", page, re.S)
    }
    label = next((label for label in figures if about in label), next(iter(figures)))
    plot, rest = figures[label].split("</svg>")
    colours = dict(re.findall(r"--(\w+): (#\w+)", re.search(r":root \{(.*?)\}", page)[1]))
    plot = re.sub(r"var\(--(\w+)\)", lambda found: colours[found[1]], plot.strip())
    head, _, drawn = plot.replace("currentColor", colours["ink"]).partition(">")
    ground = f'<rect width="100%" height="100%" fill="{colours["paper"]}"/>'
    svg = f'{head} font-family="DejaVu Sans, Verdana, sans-serif">{ground}{drawn}</svg>\n'
    caption = re.search(r"<figcaption>(.*?)</figcaption>", rest, re.S)
    numbered = (
        rest if "<li>" in rest or "number" not in caption[1] else page.partition("</ul><figcaption>")[0]
    )
    keys = re.findall(r'<li><i class="c(\d)"></i>(?:(\d+)  )?(.*?)</li>', numbered)
    rows = ", ".join(f"{number} `{name}` {NAMES[int(i)]}".strip() for i, number, name in keys)
    return label, f"{html.unescape(caption[1])} {rows}{'.' * bool(rows)}".strip(), svg


def made() -> dict[Path, str]:
    """What the page and its pictures should be."""
    files, parts = {}, [HEAD]
    for name, about in PICTURES.items():
        label, read, plot = picture((EXAMPLES / f"{name}.html").read_text(encoding="utf-8"), about)
        files[IMAGES / f"{name}.svg"] = plot
        question, sentence = answer(name)
        parts.append(
            f"## {question}\n\n{sentence}\n\n"
            f"[![{label}](images/gallery/{name}.svg)](examples/{name}.html)\n\n"
            f"{read} [The page](examples/{name}.html), [its table](examples/{name}.md).\n\n"
            f"    kdx train -m experiment={name} 'seed=range(300,303)'\n"
        )
    return {PAGE: "\n".join([*parts, FOOT]), **files}


def main(argv: Sequence[str]) -> int:
    different = [
        path
        for path, text in made().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    for path in different:
        if "--check" not in argv:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(made()[path], encoding="utf-8")
        print(path.relative_to(ROOT), "differs" if "--check" in argv else "written")
    return int("--check" in argv and bool(different))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
