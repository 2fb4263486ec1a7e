"""The record's text: compact, and rounded without making something nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from cogcalib.harness.reproduce import Preset, load_table, make_plan, table_record
from cogcalib.harness.reproduce.measured_rates import MeasuredRates, keep_rates
from cogcalib.harness.reproduce.table_record import round_figures, to_text


def test_figures_are_rounded_but_keep_their_sign() -> None:
    found = {"a": [1 / 3, -2e-9, 0.0, math.inf], "n": 12, "name": "x", "b": True}
    rounded = {"a": [0.33333, -2e-9, 0.0, math.inf], "n": 12, "name": "x", "b": True}
    assert round_figures(found) == rounded
    assert math.isnan(round_figures(math.nan))


def test_a_page_prints_of_the_rounded_figure_what_it_prints_of_the_figure() -> None:
    assert round(-0.00049961, 5) == -0.0005
    assert f"{round_figures(-0.00049961):+.3f}" == f"{-0.00049961:+.3f}" == "-0.000"


def test_the_text_has_a_line_for_each_row() -> None:
    record = {
        "results": [
            {
                "rows": [{"row": "sft", "mean": {"nll": 0.5}}, {"row": 'ls "{"row"', "mean": {}}],
                "pairs": [{"rows": ["ls", "sft"], "difference": {"nll": [0.1, 0.0, 0.2]}}],
            }
        ]
    }
    text = to_text(record)
    assert json.loads(text) == record
    assert [line.partition(":")[0] for line in text.splitlines()[1:]] == [
        '{"rows"',
        '{"row"',
        '{"row"',
        '{"rows"',
    ]


def test_what_check_measured_is_in_the_record(small: Preset, tmp_path: Path) -> None:
    plan = make_plan(load_table("main"), small, tmp_path, seeds=[0], tune_seeds=[0])
    assert table_record._measured(plan) == {}
    values: dict[str, Any] = dict.fromkeys(MeasuredRates.__slots__, 1)
    values |= {"model": "atlas", "task": "t", "device": "d", "dtype": "float32"}
    values |= {"adapter": True, "checkpointing": True}
    keep_rates(plan.places[0].path.parent, MeasuredRates(**values))
    assert table_record._measured(plan) == {"small": values}
