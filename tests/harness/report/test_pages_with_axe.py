"""The pages by axe-core, where AXE_JS names its axe.min.js: nothing serious, wide or narrow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Tab, browser, find_chromium
from run_builder import build_run

from cogcalib.harness.report import write_html
from cogcalib.harness.report.comparison import compare
from cogcalib.harness.report.comparison_page import comparison_page
from cogcalib.harness.report.html import render_page

EXECUTABLE, AXE = find_chromium(), os.environ.get("AXE_JS")
pytestmark = [
    pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium is installed"),
    pytest.mark.skipif(AXE is None, reason="AXE_JS does not name the axe.min.js of axe-core"),
]
SERIOUS = ("serious", "critical")
ASKED = """axe.run(document, {resultTypes: ["violations"]}).then(found => found.violations.map(
  each => [each.impact, each.id, each.nodes.slice(0, 3).map(node => node.target.join(" "))]))"""


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    assert EXECUTABLE is not None
    with browser(EXECUTABLE) as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("axe")
    runs = [
        build_run(folder / name, methods=("sft", "cols"), seeds=(0,)) for name in ("one", "two")
    ]
    compared = folder / "compared.html"
    compared.write_text(render_page(comparison_page(compare(runs, resamples=50))), "utf-8")
    return {"report": write_html(runs[0]), "comparison": compared}


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("page", ["report", "comparison"])
def test_axe_finds_nothing_serious(
    tab: Tab, pages: dict[str, Path], page: str, width: int, dark: bool
) -> None:
    assert AXE is not None
    tab.open(pages[page], width=width, dark=dark)
    # Through the debugger, as the page's own policy lets no other script run.
    tab.run(Path(AXE).read_text(encoding="utf-8") + ";0")
    found = tab.run(ASKED)
    assert [each for each in found if each[0] in SERIOUS] == []
