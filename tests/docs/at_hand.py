"""The files that pages take for given, under the names that they use."""

from __future__ import annotations

import csv
import json
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
    _write_table(folder / "questions.csv")
    _write_samples(folder / "out" / "my-model")
    _write_runs(folder)


def _write_table(path: Path) -> None:
    """Questions to be asked, with and without their options."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["question", "answer", "options"])
        for each in COUNTRIES:
            question = f"In which country is the city of New {each}?"
            table.writerow([question, each, json.dumps([each, "Iran"])])


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
