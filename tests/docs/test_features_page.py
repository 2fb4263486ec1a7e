"""The page of features: its tests exist, what it refuses is refused, and no argument is missing."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainingArguments

from cogcalib.training import CogCalibConfig

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (?P<feature>.+?) \| (?P<status>\w+) \| (?P<shown>.+?) \|$", re.MULTILINE)
PAGE = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
ROWS = [
    match.groupdict()
    for match in ROW.finditer(PAGE)
    if match["status"] in ("right", "refused", "untested")
]


def settings(shown: str) -> dict[str, Any] | None:
    """The configuration a refused row gives, or None if it names a test."""
    text = shown.strip("`")
    return json.loads(text) if text.startswith("{") else None


def test_the_table_is_read() -> None:
    headings = PAGE.count("| feature | status | shown by |\n|---|---|---|\n")
    assert len(ROWS) == len(re.findall(r"^\|", PAGE, re.MULTILINE)) - 2 * headings > 60
    assert {row["status"] for row in ROWS} == {"right", "refused", "untested"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["feature"])
def test_named_tests_exist(row: dict[str, str]) -> None:
    names = re.findall(r"`(\w+\.py)::(\w+)`", row["shown"])
    if row["status"] == "untested":
        assert not names
        return
    assert names or (row["status"] == "refused" and settings(row["shown"]))
    for file, name in names:
        (path,) = ROOT.glob(f"tests/**/{file}")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert name in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, (file, name)


REACH_THE_LOSS = {
    "activation_offloading",
    "average_tokens_across_devices",
    "bf16",
    "dataloader_drop_last",
    "dataloader_num_workers",
    "fp16",
    "gradient_accumulation_steps",
    "gradient_checkpointing",
    "include_num_input_tokens_seen",
    "label_smoothing_factor",
    "load_best_model_at_end",
    "neftune_noise_alpha",
    "remove_unused_columns",
    "report_to",
    "torch_compile",
    "train_sampling_strategy",
    "use_liger_kernel",
}
"""Of transformers' arguments."""
IN_WORDS = {"bf16": "bf16 training", "gradient_accumulation_steps": "gradient accumulation"}


def test_every_argument_of_ours_and_trl_has_a_row() -> None:
    ours, theirs = (
        {each.name for each in dataclasses.fields(kind)}
        for kind in (CogCalibConfig, TrainingArguments)
    )
    features = "\n".join(row["feature"] for row in ROWS)
    for name in sorted((ours - theirs) | (REACH_THE_LOSS & ours)):
        assert re.search(IN_WORDS.get(name, rf"`{name}[=`]"), features), name
    assert ours >= REACH_THE_LOSS


REFUSED = [row for row in ROWS if row["status"] == "refused" and settings(row["shown"])]


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row["feature"])
def test_refused_settings_are_refused(row: dict[str, str], tmp_path: Path) -> None:
    given = settings(row["shown"]) or {}
    with pytest.raises(ValueError, match="|".join(given)):
        CogCalibConfig(str(tmp_path), use_cpu=True, bf16=False, **given)
