"""The page: complete, self-contained, escaped, atomic, honest about what is missing."""

from __future__ import annotations

import errno
import json
import re
import shutil
import time
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from run_builder import COUNTRY, build_run

from cogcalib.harness.report import Run, load_run, write_html
from cogcalib.harness.report.html import render_html, write_figures
from cogcalib.harness.report.page import page_content
from cogcalib.jsonl import read_jsonl, write_jsonl
from cogcalib.records import Prediction

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'"
COLOUR = re.compile(r'style="--c:([^"]+)"')
"""Of a method, in a swatch as in a chart."""


class Page(HTMLParser):
    """Collects tags, ids and the text of headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]


@pytest.fixture(scope="module")
def text(run: Run) -> str:
    return render_html(run)


def test_page_holds_every_section(run: Run, text: str) -> None:
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    assert re.findall(r'<a href="#(.*?)">', text) == re.findall(
        r'<(?:section|header) id="(.*?)"', text
    )
    assert headings == [
        "Results",
        "If it answers only where it is sure",
        "Does the confidence mean what it says?",
        "How sure it is when correct, and when wrong",
        "Training",
        "The most confident mistakes",
        "What the base model knew",
        "Data",
        "Record",
    ]
    assert "CoLS lowers ECE from" in text
    assert "0123456789, with local changes" in text
    assert f"{1500:064x}" in text
    # By definition an ECE chart of two tasks and both charts of eight methods, accuracies, risks
    # (of the task without predictions one), thresholds, curves, the probe.
    drawn = len(re.findall(r'<svg class="plot" ', text))
    assert drawn == 2 * 2 + 2 + (2 + 1) + 2 * 16 + 2 + 3 + 2
    assert len(page_content(run).charts) == drawn
    assert "2 (0, 1)" in text


@pytest.mark.parametrize("kind", ["report", "comparison", "without answers"])
def test_a_legend_has_the_methods_that_are_drawn_beside_it(
    kind: str, pages: dict[str, Path], run_dir: Path, tmp_path: Path
) -> None:
    if kind in pages:
        text = pages[kind].read_text(encoding="utf-8")
    else:
        path = Path(shutil.copytree(run_dir, tmp_path / "run"))
        for folder in ("score", "recalibrate"):
            shutil.rmtree(path / folder)
        text = render_html(load_run(path))
    found = {}
    for name, section in re.findall(r'<section id="([\w-]+)">(.*?)</section>', text, re.DOTALL):
        legends = re.findall(r'<ul class="legend">.*?</ul>', section, re.DOTALL)
        if legends:
            beside = section.replace("".join(legends), "")
            found[name] = [sorted(set(COLOUR.findall(each))) for each in ("".join(legends), beside)]
    assert found.keys() == {"results", "ranking", *(["training"] if kind != "comparison" else [])}
    assert all(named == drawn != [] for named, drawn in found.values()), found


def test_charts_become_files(run: Run, tmp_path: Path) -> None:
    page = page_content(run)
    written = write_figures(page, tmp_path / "figures")
    assert len(written) == len(page.charts)
    assert len({path.name for path in written}) == len(written)
    for path in written:
        assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_the_page_of_a_demo_is_made_in_seconds_and_is_small(run: Run) -> None:
    begun = time.process_time()
    text = render_html(run)
    assert time.process_time() - begun < 5
    assert len(text.encode()) < 2_000_000


def test_tables_show_every_definition_side_by_side(run: Run) -> None:
    rows = [dict(row) | {"ece": row["ece"] | {"surface": {"value": 0.0777}}} for row in run.rows]
    page = render_html(replace(run, rows=tuple(rows)))
    for definition in ("vocab", "options"):
        assert page.count(f'<th scope="col">ECE % {definition}</th>') == 2 * 2 + 2
    assert "7.8" in page
    assert "-log of the correct option" in page


def test_page_needs_nothing_from_outside(text: str) -> None:
    page = Page(text)
    assert page.tags["script"] == 2, "our data and our script"
    assert not page.tags.keys() & {"link", "img", "iframe", "object", "base", "form"}
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in {"src", "href", "xlink:href", "srcset", "action", "data"}:
            assert value.startswith("#"), (tag, name, value)
    assert set(re.findall(r"url\((.)", text)) <= {"#"}
    assert "@import" not in text
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_ids_are_unique(text: str) -> None:
    ids = Counter(value for _, name, value in Page(text).attributes if name == "id")
    assert [each for each, count in ids.items() if count > 1] == []


def test_equal_runs_give_equal_pages(run: Run, text: str) -> None:
    assert render_html(run) == text


def test_everything_from_the_run_is_escaped(tmp_path: Path) -> None:
    name = ATTACK.replace("/", "-")
    path = build_run(tmp_path / name, methods=("sft", "cols"), seeds=(0,))
    file = path / "score" / "sft" / "seed-0" / f"{COUNTRY.replace('/', '-')}.test.jsonl"
    predictions = read_jsonl(file, Prediction)
    values = {field: getattr(predictions[0], field) for field in Prediction.__slots__}
    values |= {"prediction": ATTACK, "correct": False, "confidence": {"vocab": 1.0, "options": 1.0}}
    write_jsonl(file, [Prediction(**values), *predictions[1:]])
    metrics = json.loads((path / "metrics.json").read_text())
    for row in metrics:
        row["method"] = row["method"].replace("cols", "cols-" + ATTACK)
    metrics += [row | {"method": "cols"} for row in metrics if row["method"].startswith("cols")]
    (path / "metrics.json").write_text(json.dumps(metrics))
    record = json.loads((path / "record.json").read_text())
    record["versions"][ATTACK] = record["data"]["train"]["sha256"] = ATTACK
    (path / "record.json").write_text(json.dumps(record))
    (path / "config.yaml").write_text(f"name: {ATTACK}\n")

    text = write_html(path).read_text()

    page = Page(text)
    assert (page.tags["script"], page.tags["img"]) == (2, 0)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert text.count("&lt;script&gt;") >= 5
    (data,) = re.findall(r'<script type="application/json" id="page-data">(.*?)</script>', text)
    assert "<" not in data
    answers = [each["answers"] for each in json.loads(data)["methods"]]
    assert any(ATTACK in each for each in answers)


def test_report_is_replaced_atomically(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copytree(run_dir, tmp_path / "run"))
    report = path / "report.html"
    report.write_text("old")

    def fail(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, "disk full")

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", fail)
        with pytest.raises(OSError, match="disk full"):
            write_html(path)
    assert report.read_text() == "old"
    assert sorted(p.name for p in path.glob("*report.html*")) == ["report.html"]
    assert write_html(path) == report
    assert report.read_text().startswith("<!doctype html>")


def test_sections_without_data_are_left_out(run_dir: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(run_dir, tmp_path / "run"))
    for folder in ("probe", "train", "score", "recalibrate", "splits"):
        shutil.rmtree(path / folder)
    headings = re.findall(r"<h2>(.*?)</h2>", render_html(load_run(path)))
    assert headings == ["Results", "If it answers only where it is sure", "Data", "Record"]


def test_what_was_done_to_the_tasks_is_told(run: Run) -> None:
    audit = {
        "labels": [{"tokens": ["\u0120A"]}, {"tokens": ["\u0120B"]}],
        "single": True, "distinct": True, "alone": False, "steady": False,
    }  # fmt: skip
    dropped = [{"split": "train", "found_in": "test", "questions": 22, "rows": 23}]
    asked = {"version": 2, "prompt": "blob", "dropped": dropped, "labels": audit}
    asked |= {"shortened": {"train": 0, "test": 1007}, "equal_options": {"train": 3}}
    other = {"version": 1, "prompt": "blob", "dropped": [], "labels": None, "shortened": {}}
    record = {**run.record, "tasks": {"one": asked, "other": other}}
    tasks = page_content(replace(run, record=record)).asked
    assert tasks is not None
    assert [[text for text, _ in row] for row in tasks.rows] == [
        ["one", "2", "blob", "train 23 (in test)", "train 3", "test 1,007",
         "\u0120A \u0120B, single tokens, distinct, other tokens behind other prompts"],
        ["other", "1", "blob", "none", "none", "none", "no options"],
    ]  # fmt: skip
    text = render_html(replace(run, record=record))
    assert "<h3>Tasks</h3>" in text
    assert "train 23 (in test)" in text


def test_missing_metrics_are_reported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"metrics\.json"):
        write_html(tmp_path)
