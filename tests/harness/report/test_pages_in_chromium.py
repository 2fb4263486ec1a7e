"""The pages in a real browser: quiet, alone, usable; with and without their script."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chromium import Tab, find_chromium
from page_builder import ATTACK, PAGES, SCRIPT

from cogcalib.harness.report.page_parts import even_columns

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed")
RUNS = ("report", "comparison")
"""Pages of runs, which have answers to look at."""


@pytest.fixture(scope="module")
def page(pages: dict[str, Path]) -> Path:
    return pages["report"]


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", PAGES)
def test_it_is_quiet_alone_and_fits(
    tab: Tab, pages: dict[str, Path], name: str, width: int, dark: bool
) -> None:
    tab.open(pages[name], width=width, dark=dark)
    assert tab.errors == []
    assert tab.requests == [pages[name].resolve().as_uri()]
    # Not `innerWidth`: a phone makes its window as wide as what is on the page.
    assert tab.run("document.documentElement.scrollWidth") <= width
    # Only tables and settings may be wider than the window: they scroll, pictures never do.
    beyond = f"""[...document.querySelectorAll("main *")].filter(e =>
      e.getBoundingClientRect().right > {width} + 1
      && !e.closest(".scroll table, pre.scroll")).map(e => e.outerHTML.slice(0, 80))"""
    assert tab.run(beyond) == []
    assert tab.run(CUT) == []
    # What was written into the run is text.
    assert ATTACK[name] in tab.run("document.body.textContent")
    assert tab.run("window.hit") is None
    assert tab.run('document.querySelectorAll("img").length') == 0
    for tag, brightness, opacity in tab.run(LIGHT):
        if opacity:
            assert (brightness > 380) == (dark == (tag == "text")), (tag, brightness)


@pytest.mark.parametrize("name", RUNS)
def test_no_table_has_columns_out_of_sight(tab: Tab, pages: dict[str, Path], name: str) -> None:
    tab.open(pages[name], width=1400)
    assert tab.run(WIDER) == []
    tab.open(pages[name], width=A4)
    tab.send("Emulation.setEmulatedMedia", media="print")
    assert tab.run(WIDER) == []
    tab.send("Emulation.setEmulatedMedia", media="")


A4 = 718
"""Pixels between the margins of a sheet, which does not scroll."""
WIDER = """[...document.querySelectorAll(".scroll:has(table)")].filter(
  e => e.checkVisibility() && e.querySelector("table").scrollWidth > e.clientWidth + 1
).map(e => e.getAttribute("aria-label"))"""
"""Names of the tables that are wider than their place."""


CUT = """[...document.querySelectorAll("main svg text")].filter(e => e.checkVisibility()).filter(
  e => {
    const [text, drawn] = [e, e.ownerSVGElement].map(x => x.getBoundingClientRect());
    return text.left < drawn.left - 1 || text.right > drawn.right + 1
      || text.top < drawn.top - 1 || text.bottom > drawn.bottom + 1;
  }).map(e => e.textContent)"""
"""Texts of pictures that reach beyond their picture, which cuts them off."""


LIGHT = """[...document.querySelectorAll("main, .card, svg text")].filter(
  // A number on a bar has a colour of its own.
  e => e.tagName !== "text" || /[a-z]/.test(e.textContent)).map(e => {
  const s = getComputedStyle(e);
  const c = (e.tagName === "text" ? s.fill : s.backgroundColor).match(/[\\d.]+/g).map(Number);
  return [e.tagName, c[0] + c[1] + c[2], c[3] ?? 1] })"""


@pytest.mark.parametrize("width", [1400, 390])
def test_the_text_of_a_probe_is_as_large_as_it_should_be(
    tab: Tab, pages: dict[str, Path], width: int
) -> None:
    tab.open(pages["probe"], width=width)
    sizes = tab.run(
        """[...document.querySelectorAll(".picture svg text")].map(e => {
      const turned = e.getScreenCTM();
      return parseFloat(getComputedStyle(e).fontSize) * Math.hypot(turned.b, turned.d) })"""
    )
    assert len(sizes) > 20
    assert min(sizes) > 8


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("name", PAGES)
def test_the_contents_stay_and_tell_where_one_is(
    tab: Tab, pages: dict[str, Path], name: str, width: int
) -> None:
    tab.open(pages[name], width=width)
    links = tab.run("[...document.querySelectorAll('.contents a')].map(a => a.hash)")
    for link in (links[2], links[-1], links[0]):
        tab.run(f"document.querySelector('.contents a[href=\"{link}\"]').click()")
        current = "[...document.querySelectorAll('.contents [aria-current]')].map(a => a.hash)"
        tab.wait_for(f"{current}.join() === '{link}'")
        assert abs(tab.run('document.querySelector(".aside").getBoundingClientRect().top')) < 1


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("name", PAGES)
def test_the_names_in_a_table_are_not_broken(
    tab: Tab, pages: dict[str, Path], name: str, width: int
) -> None:
    tab.open(pages[name], width=width)
    lines = """[...document.querySelectorAll("tbody .whole")].filter(e => e.checkVisibility())
      .map(e => [e.textContent, e.getClientRects().length])"""
    found = tab.run(lines)
    assert len(found) > 3
    assert [text for text, count in found if count != 1] == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", PAGES)
def test_a_table_that_scrolls_shows_it(
    tab: Tab, pages: dict[str, Path], name: str, dark: bool
) -> None:
    tab.open(pages[name], width=390, dark=dark)
    place = """(() => { const e = [...document.querySelectorAll("div.scroll")].find(e =>
      e.checkVisibility() && e.scrollWidth > e.clientWidth + 20); SCROLL
      e.scrollIntoView({block: "center"}); const box = e.getBoundingClientRect();
      const cell = e.querySelector("tbody tr > :first-child").getBoundingClientRect();
      return [box.right + scrollX, box.top + scrollY, cell.left - box.left] })()"""

    def edge(scroll: str) -> str:
        """A few pixels at the right edge, above the headers' text."""
        right, top, offset = tab.run(place.replace("SCROLL", scroll))
        assert abs(offset) < 1, "the first column stays"
        clip = {"x": right - 3, "y": top + 1, "width": 3, "height": 3, "scale": 1}
        shot = tab.send("Page.captureScreenshot", clip=clip)
        return str(shot["data"])

    shaded = edge("e.scrollLeft = 0;")
    assert edge("e.scrollLeft = e.scrollWidth;") != shaded
    assert edge("e.scrollLeft = 0;") == shaded


ROWS = """[...document.querySelectorAll(".panels")].map(e => {
  const tops = [...e.children].filter(f => f.checkVisibility())
    .map(f => Math.round(f.getBoundingClientRect().top));
  return [...new Set(tops)].map(top => tops.filter(each => each === top).length) })"""
"""For each group of charts, how many stand in each of its rows."""


@pytest.mark.parametrize("width", [1400, 1100, 700])
def test_no_chart_stands_alone_in_a_last_row(tab: Tab, page: Path, width: int) -> None:
    tab.open(page, width=width)
    rows = tab.run(ROWS)
    assert [2, 2] in rows
    # Three charts where two fit beside each other leave one alone.
    alone = [each for each in rows if each[-1] == 1 < each[0]]
    assert [each for each in alone if sum(each) != 3] == []


@pytest.mark.parametrize(
    ("charts", "most", "columns"),
    [(0, 3, 1), (1, 3, 1), (2, 3, 2), (3, 3, 3), (4, 3, 2), (5, 3, 3), (6, 3, 3), (7, 3, 3),
     (8, 3, 3), (10, 3, 2), (3, 2, 2), (4, 2, 2)],
)  # fmt: skip
def test_charts_are_laid_out_evenly(charts: int, most: int, columns: int) -> None:
    assert even_columns(charts, most) == columns


@pytest.mark.parametrize("name", RUNS)
def test_the_switch_shows_another_definition(tab: Tab, pages: dict[str, Path], name: str) -> None:
    tab.open(pages[name])
    seen = """[...document.querySelectorAll("figure[data-definition]")].filter(e =>
      e.checkVisibility()).map(e => e.dataset.definition)"""
    assert set(tab.run(seen)) == {"options"}
    tab.run('document.querySelector("[name=definition][value=\\"1\\"]").click()')
    assert set(tab.run(seen)) == {"vocab"}
    if name == "report":  # the page of one run, which has its mistakes
        assert "confidence vocab" in tab.run('document.querySelector(".filters .note").textContent')


@pytest.mark.parametrize("name", RUNS)
def test_tables_are_sorted_both_ways(tab: Tab, pages: dict[str, Path], name: str) -> None:
    tab.open(pages[name])
    column = """[...document.querySelector("#results table").tBodies[0].rows].map(r =>
      parseFloat(r.cells[2].textContent))"""
    button = 'document.querySelector("#results table th:nth-child(3) button").click()'
    before = tab.run(column)
    tab.run(button)
    assert tab.run(column) == sorted(before)
    tab.run(button)
    assert tab.run(column) == sorted(before, reverse=True)
    assert tab.run('document.querySelector("#results th:nth-child(3)").ariaSort') == "descending"


def test_a_table_of_a_probe_is_sorted(tab: Tab, pages: dict[str, Path]) -> None:
    tab.open(pages["probe"])
    rows = """[...document.querySelector("#categories table").tBodies[0].rows].map(r =>
      [r.cells[0].textContent, parseFloat(r.cells[3].textContent)])"""
    button = 'document.querySelector("#categories table th:nth-child(4) button").click()'
    before = tab.run(rows)
    shares = sorted(share for _, share in before)
    assert shares == [0.0, 0.0, 50.0, 100.0]
    for wanted in (shares, shares[::-1]):
        tab.run(button)
        after = tab.run(rows)
        assert [share for _, share in after] == wanted
        assert sorted(after) == sorted(before), "a row stays whole"


@pytest.mark.parametrize("way", ["click", "key"])
@pytest.mark.parametrize("name", RUNS)
def test_a_bin_lists_its_answers_and_their_text_is_inert(
    tab: Tab, pages: dict[str, Path], name: str, way: str
) -> None:
    tab.open(pages[name])
    last = """const bins = [...document.querySelectorAll("#reliability [data-method=\\"0\\"]" +
      "[data-definition=options] [data-bin]")], bin = bins[bins.length - 1];"""
    event = (
        'new MouseEvent("click", {bubbles: true})'
        if way == "click"
        else 'new KeyboardEvent("keydown", {key: "Enter"})'
    )
    label = tab.run(f"(() => {{{last} bin.dispatchEvent({event}); return bin.ariaLabel}})()")
    listed = 'document.querySelectorAll("#reliability .answers tbody tr").length'
    told = int(label.split(": ")[1].split(" answers")[0].replace(",", ""))
    assert tab.run(listed) == min(told, 200)
    text = 'document.querySelector("#reliability .answers").textContent'
    assert SCRIPT in tab.run(text)  # the questions of both pages
    assert tab.run("window.hit") is None
    assert tab.run('document.querySelectorAll("img").length') == 0
    assert tab.errors == []
    sure = """[...document.querySelectorAll("#reliability .answers tbody tr")].map(r =>
      parseFloat(r.cells[3].textContent))"""
    before = tab.run(sure)
    tab.run('document.querySelector("#reliability .answers th:nth-child(4) button").click()')
    assert before == sorted(before, reverse=True)
    assert tab.run(sure) == before[::-1]
    tab.run('document.querySelector("#reliability .answers > button").click()')
    assert tab.run('document.querySelector("#reliability .answers").hidden')


def test_mistakes_are_filtered(tab: Tab, page: Path) -> None:
    tab.open(page)
    rows = """[...document.getElementById("mistake-table").tBodies[0].rows].map(r =>
      [...r.cells].map(c => c.textContent))"""
    every = tab.run(rows)
    assert len(every) > 20
    assert [float(row[3]) for row in every] == sorted((float(r[3]) for r in every), reverse=True)
    enter = """(which, value) => { const e = document.querySelectorAll(".filters input")[which];
      e.type === "checkbox" ? e.checked = value : e.value = value;
      e.dispatchEvent(new Event("input")) }"""
    tab.run(f"({enter})(2, true)")
    assert [row[4].endswith("✓") for row in tab.run(rows)].count(False) == 0
    tab.run(f"({enter})(2, false); ({enter})(1, 99)")
    surest = tab.run(rows)
    assert 0 < len(surest) < len(every)
    assert all(float(row[3]) >= 99 for row in surest)
    tab.run(f"({enter})(1, 0); ({enter})(0, {json.dumps('city 21')})")
    found = tab.run(rows)
    assert found
    assert all("city 21" in row[0] for row in found)


def test_mistakes_stay_sorted_when_the_filter_changes(tab: Tab, page: Path) -> None:
    tab.open(page)
    rows = """[...document.getElementById("mistake-table").tBodies[0].rows].map(r =>
      [r.cells[0].textContent, parseFloat(r.cells[3].textContent)])"""
    every = tab.run(rows)
    tab.run('document.querySelector("#mistake-table th:nth-child(4) button").click()')
    rising = tab.run(rows)
    assert [sure for _, sure in rising] == sorted(sure for _, sure in every)
    assert sorted(rising) == sorted(every), "a row stays whole"
    least = 'const e = document.querySelectorAll(".filters input")[1]'
    tab.run(f"(() => {{ {least}; e.value = 90; e.dispatchEvent(new Event('input')) }})()")
    sure = [each for _, each in tab.run(rows)]
    assert 1 < len(sure) < len(every)
    assert sure == sorted(sure)
    assert tab.run('document.querySelector("#mistake-table th:nth-child(4)").ariaSort')


def test_it_reads_without_its_script(tab: Tab, page: Path) -> None:
    tab.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.open(page)
        assert tab.run('document.querySelectorAll("th button").length') == 0
        assert tab.run('document.querySelectorAll("#mistake-table tbody tr").length') == 8
        seen = 'document.querySelectorAll("[data-shown~=\\"0\\"]")[0].checkVisibility()'
        assert tab.run(seen)
        assert tab.run('document.querySelector(".filters").checkVisibility()') is False
    finally:
        tab.send("Emulation.setScriptExecutionDisabled", value=False)


def test_what_is_printed_has_no_controls(tab: Tab, page: Path) -> None:
    tab.open(page)
    tab.send("Emulation.setEmulatedMedia", media="print")
    for part in (".aside", ".filters", ".scripted"):
        assert not tab.run(f'document.querySelector("{part}").checkVisibility()')
    assert tab.run('getComputedStyle(document.querySelector(".tall")).overflowY') == "visible"
    tab.send("Emulation.setEmulatedMedia", media="")
