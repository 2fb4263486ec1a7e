"""Builds one page of each kind, of runs and a probe that would run a script if they were let."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from run_builder import COUNTRY, build_run

from cogcalib.harness.report import write_html
from cogcalib.harness.report.comparison import compare
from cogcalib.harness.report.comparison_page import comparison_page
from cogcalib.harness.report.html import render_page
from cogcalib.harness.report.probe_page import write_probe_html
from cogcalib.jsonl import read_jsonl, write_jsonl
from cogcalib.knowledge import CATEGORIES, Knowledge, Signals
from cogcalib.knowledge.probe_rows import write_rows
from cogcalib.records import Example, Option
from cogcalib.tasks import load_task

SCRIPT = "<script>window.hit=1</script><img src=x onerror=window.hit=1>"
ATTACK = {
    "report": SCRIPT,
    "comparison": "two <img src=x onerror=window.hit=1>",
    "probe": SCRIPT,
}
PAGES = tuple(ATTACK)
METHODS = ("sft", "sft+ts", "cols", "cols-random")
PROBE = "model: atlas\ntask: atlas/country-open\nsplit: train\nmode: exact\ntemperature: 0.5\n"


def build_pages(folder: Path) -> dict[str, Path]:
    """The page of a run, of two runs and of a probe, by their names in `PAGES`."""
    one = build_run(folder / "one", methods=METHODS, seeds=(0,))
    two = build_run(folder / ATTACK["comparison"], methods=("sft", "cols"), seeds=(0,))
    for run in (one, two):
        _attack(run / "splits" / f"{COUNTRY.replace('/', '-')}.jsonl")
    compared = folder / "compared.html"
    compared.write_text(render_page(comparison_page(compare([one, two], resamples=50))), "utf-8")
    probe = folder / "probe"
    probe.mkdir()
    (probe / "config.yaml").write_text(PROBE, encoding="utf-8")
    write_rows(probe / "probe.parquet", probed())
    return {
        "report": write_html(one),
        "comparison": compared,
        "probe": write_probe_html(probe, resamples=20),
    }


def _attack(file: Path) -> None:
    rows = read_jsonl(file, Example)
    options = tuple(Option(o.letter, SCRIPT) for o in rows[0].options or ())
    bad = [Example(r.id, r.task, r.split, SCRIPT, options, r.answer) for r in rows[:200]]
    write_jsonl(file, [*bad, *rows[200:]])


def probed() -> list[Knowledge]:
    """Forty questions in all categories and two groups; the first asks for a script."""
    examples = load_task("atlas/country-open").splits["train"][:40]
    examples[0] = replace(examples[0], prompt=SCRIPT)
    return [
        knowledge(e, CATEGORIES[i % 4], 0.2 * (i % 4) + 0.01 * i, f"<group {i % 2}>")
        for i, e in enumerate(examples)
    ]


def knowledge(example: Example, category: str, nll: float, group: str) -> Knowledge:
    """What a probe may have found of a question."""
    greedy = (CATEGORIES.index(category) < 1, CATEGORIES.index(category) < 2)
    return Knowledge(
        example, group, category, ("0", "1"), greedy, (0.5, 0.4), (0.5, 0.4), sum(greedy) / 2,
        0.45, 0.9, Signals(nll, 1.0 - nll, nll, float(np.exp(-nll)), 2),
    )  # fmt: skip
