"""The pages by axe-core, where AXE_JS names its axe.min.js: nothing serious, wide or narrow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from chromium import Tab
from page_builder import PAGES

AXE = os.environ.get("AXE_JS")
# Who names it means it: without a browser the tests then fail.
pytestmark = pytest.mark.skipif(
    AXE is None, reason="AXE_JS does not name the axe.min.js of axe-core"
)
SERIOUS = ("serious", "critical")
ASKED = """axe.run(document, {resultTypes: ["violations"]}).then(found => found.violations.map(
  each => [each.impact, each.id, each.nodes.slice(0, 3).map(node => node.target.join(" "))]))"""


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("page", PAGES)
def test_axe_finds_nothing_serious(
    tab: Tab, pages: dict[str, Path], page: str, width: int, dark: bool
) -> None:
    assert AXE is not None
    tab.open(pages[page], width=width, dark=dark)
    # Through the debugger, as the page's own policy lets no other script run.
    tab.run(Path(AXE).read_text(encoding="utf-8") + ";0")
    found = tab.run(ASKED)
    assert [each for each in found if each[0] in SERIOUS] == []
