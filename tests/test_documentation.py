"""What the guide says: its code runs and prints what stands below it; the reference is complete."""

import contextlib
import io
import pkgutil
import re
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import matplotlib
import matplotlib.pyplot as plt
import pytest

import skemvae
from skemvae.likelihoods import LIKELIHOODS
from skemvae.structures.registry import STRUCTURES

DOCS = Path(__file__).parents[1] / "docs"
# A block of code, and the block of text that may follow it: what it prints.
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
PAGES = [page for page in sorted(DOCS.glob("*.md")) if BLOCK.search(page.read_text())]
# What a line of code in the column of the site has room for, in a window of 1280 pixels.
LONGEST_LINE_OF_CODE = 88


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_guides_code_prints_what_the_guide_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    names = {"__name__": "__main__"}
    with patch.dict(STRUCTURES), patch.dict(LIKELIHOODS):  # a page may register its own
        for code, expected in BLOCK.findall(page.read_text()):
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(code, page.name, "exec"), names)
            plt.close("all")
            if expected:
                assert printed.getvalue().strip() == expected.strip()


def test_every_public_package_is_in_the_reference():
    reference = (DOCS / "api.rst").read_text().split()
    for module in pkgutil.iter_modules(skemvae.__path__, "skemvae."):
        names = set(getattr(import_module(module.name), "__all__", ())) if module.ispkg else set()
        assert names <= set(skemvae.__all__) or module.name in reference, module.name


def lines_of_code(page):
    """Line numbers and lines of all code blocks, whatever their language."""
    inside = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            inside = not inside
        elif inside:
            yield number, line


@pytest.mark.parametrize(
    "page", [*sorted(DOCS.glob("*.md")), *DOCS.parent.glob("*.md")], ids=lambda page: page.stem
)
def test_code_fits_into_the_column_of_the_site(page):
    too_long = [n for n, line in lines_of_code(page) if len(line) > LONGEST_LINE_OF_CODE]
    assert not too_long, f"{page.name}: lines {too_long} are longer than {LONGEST_LINE_OF_CODE}"


def test_links_between_pages_lead_somewhere():
    for page in [*DOCS.glob("*.md"), *DOCS.parent.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            path = page.parent / target
            if target.startswith("gallery/") and target != "gallery/index.rst":
                path = DOCS.parent / "examples" / f"{path.stem}.py"  # what its page is made of
            if not target.startswith(("http", "gallery/index")):
                assert path.exists(), (page.name, target)
