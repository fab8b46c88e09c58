"""The site of README.md and docs/: every page has its place, links lead where they do on GitHub, and it
builds without a warning. The gallery shows what the example reports show.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import gallery  # noqa: E402
import links  # noqa: E402


def test_every_page_has_a_place_in_the_site():
    nav = (ROOT / "docs/mkdocs.yml").read_text().partition("\nnav:\n")[2]
    placed = re.findall(r"[\w/-]+\.md", nav)
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert set(placed) == pages | {"index.md", "contributing.md", "changelog.md"}
    assert len(placed) == len(set(placed))


def test_links_lead_to_the_same_thing_on_the_site(tmp_path):
    (tmp_path / "docs/methods").mkdir(parents=True)
    (tmp_path / "kdx").mkdir()
    page = tmp_path / "docs/methods/a.md"
    page.write_text(
        "[home](../../README.md#x) [b](../b.md) [here](#c) [out](https://x.org)\n"
        "[`code`](../../kdx/a.py) [![p](../p.png)](../p.html) `[no](../b.md)`\n\n"
        "    [no](../b.md)\n<!-- table t: kdx; commit 1 -->\n| a |\n|---|\n"
    )
    names = {
        tmp_path / "README.md": "index.md",
        tmp_path / "docs/b.md": "b.md",
        tmp_path / "docs/p.png": "p.png",
        tmp_path / "docs/p.html": "p.html",
    }
    plain, linked = (
        links.moved(page, "methods/a.md", names, tmp_path, address) for address in (None, "https://x.org/kdx")
    )
    assert plain.splitlines()[:4] == [
        "[home](../index.md#x) [b](../b.md) [here](#c) [out](https://x.org)",
        "`code` [![p](../p.png)](../p.html) `[no](../b.md)`",
        "",
        "    [no](../b.md)",
    ]
    assert "\n\n<!-- table" in plain and "-->\n\n| a |" in plain
    assert "[`code`](https://x.org/kdx/blob/main/kdx/a.py)" in linked


def test_the_gallery_shows_what_the_reports_show():
    made = gallery.made()
    assert made.keys() >= set(gallery.IMAGES.glob("*.svg")), "a picture that no report has"
    for path, text in made.items():
        assert path.read_text(encoding="utf-8") == text, "run scripts/gallery.py"
        assert len(text) < 100_000
        assert path.suffix != ".svg" or not re.search(r"var\(|currentColor|<script|href=\"http", text)
    reports = {path.stem for path in gallery.EXAMPLES.glob("*.html")}
    assert reports == gallery.PICTURES.keys()


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("zensical")
    for name in ("docs", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)

    def build() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, tmp_path / "scripts/docs"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = build()
    assert done.returncode == 0, done.stdout + done.stderr
    site = tmp_path / "build/site"
    home = (site / "index.html").read_text(encoding="utf-8")
    assert "<h1" in home and 'href="loss.html"' in home
    asked = [
        address
        for page in site.rglob("*.html")
        for address in re.findall(
            r'<(?:script|img|link)\b[^>]*(?:src|href)="(https?://[^"]+)"', page.read_text(encoding="utf-8")
        )
    ]
    assert asked == [], "a reader's browser asks nobody else"
    with (tmp_path / "docs/start.md").open("a") as page:
        page.write("\n[lost](loss.md#nowhere)\n")
    assert build().returncode == 1


def test_without_zensical_one_sentence_says_what_to_do(tmp_path):
    if importlib.util.find_spec("zensical"):
        pytest.skip("it is here")
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/docs"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "scripts/docs needs Zensical: pip install '.[docs]'\n")


def test_the_long_description_has_no_relative_link(tmp_path):
    shutil.copy(ROOT / "README.md", tmp_path)
    text = (ROOT / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(text)
    assert links.repository(tmp_path) is None, "no address is made up"
    plain = links.long_description(tmp_path)
    assert "](" not in re.sub(r"^    .*$", "", plain, flags=re.M) and "## What it prints" in plain
    filled = re.sub(r"^# (\[project\.urls\]|\w+ = \"https://)", r"\1", text, flags=re.M)
    (tmp_path / "pyproject.toml").write_text(filled.replace("HOST/OWNER", "example.org/me"))
    (tmp_path / "docs").mkdir()
    linked = links.long_description(tmp_path)
    assert "(https://example.org/me/kdx/raw/main/docs/images/tensorboard.png)" in linked
    assert "[Your data](https://example.org/me/kdx/blob/main/docs/your-data.md)" in linked
    assert {link for link in re.findall(r"\]\(([^)]+)\)", linked) if not link.startswith("https://")} == set()
