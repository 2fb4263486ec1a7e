"""The files that pages take for given, under the names that they use."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from pages import DOCS, ROOT, blocks
from readme_rows import rows_of, write_rows

from cogcalib.modeling import resolve_model

CONFIG = """
name: my
methods: [base, sft, cols]
tasks: {limit: {train: 32}}
train: {steps: 2, style_steps: 1}
report: {resamples: 20}
"""
CONVERTER = "import pathlib, sys\npathlib.Path(sys.argv[3]).write_text('gguf')\n"
SAMPLES = "samples_{}_2026-11-23T14-04-04.485759.jsonl"
COUNTRIES = ("Peru", "France", "India", "Kenya", "Poland", "Japan", "Chile")


def put_at_hand(folder: Path, trained: Path) -> None:
    """Write them into a new folder.

    Args:
        folder: To be made.
        trained: Where README's script was run.
    """
    shutil.copytree(trained / "out", folder / "out")
    shutil.copytree(resolve_model("atlas"), folder / "my-model")
    (folder / "my.yaml").write_text(CONFIG, encoding="utf-8")
    (folder / "convert_hf_to_gguf.py").write_text(CONVERTER, encoding="utf-8")
    for name in ("examples", "experiments"):
        (folder / name).symlink_to(ROOT / name)
    write_rows(folder / "calibration.jsonl", rows_of("calibration", 0, 150))
    write_rows(folder / "held-out.jsonl", rows_of("calibration", 150, 450))
    write_rows(folder / "target.jsonl", rows_of("test", 0, 100))
    for name, page in (("questions", "predict"), ("rows", "tasks")):
        (shown,) = blocks(DOCS / f"{page}.md", "json")
        (folder / f"{name}.jsonl").write_text(shown, encoding="utf-8")
    _write_tables(folder)
    _write_samples(folder / "out" / "my-model")
    _write_runs(folder)


def _write_tables(folder: Path) -> None:
    """Open questions, which are probed, and the same with options, which are answered."""
    asked = [(f"In which country is the city of New {each}?", each) for each in COUNTRIES]
    for name, head, rows in (
        ("questions", ("question", "answer"), asked),
        ("choices", ("question", "options"), [(text, f"{gold}|Iran") for text, gold in asked]),
    ):
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([head, *rows])


def _write_samples(folder: Path) -> None:
    """What lm-evaluation-harness logs."""
    folder.mkdir()
    kept = ROOT / "tests" / "scoring" / "lm_eval_samples" / SAMPLES.format("letters")
    shutil.copy(kept, folder / SAMPLES.format("arc_challenge"))


def _write_runs(folder: Path) -> None:
    """Finished runs, and answers of theirs in files of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tests" / "harness" / "report"))
        from run_builder import build_run
    for name in ("demo", "before", "after"):
        build_run(folder / "runs" / name, methods=("base", "sft", "cols"), seeds=(0,))
    for name, run in (("published", "before"), ("base", "before"), ("tuned", "after")):
        answers = folder / "runs" / run / "score" / "sft" / "seed-0" / "atlas-country.test.jsonl"
        shutil.copy(answers, folder / f"{name}.jsonl")
