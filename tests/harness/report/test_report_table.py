"""Tables: the numbers of the rows, in percent, with interval or spread, in the right order."""

from __future__ import annotations

import io
from statistics import fmean, stdev
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from cogcalib.harness.config.methods import Method, canonical_order, label
from cogcalib.harness.report import Run, markdown_table, metrics_table
from cogcalib.harness.report.columns import columns
from cogcalib.harness.report.summary import group_rows


def row(method: str, seed: int = 0, **changes: Any) -> dict[str, Any]:
    ece = changes.pop("value", 0.1)
    return {
        "method": method,
        "task": "atlas/country",
        "split": "test",
        "seed": seed,
        "n": 1000,
        "accuracy": 0.741,
        "nll": 0.81234,
        "brier": 0.2046,
        "ece": {
            "vocab": {"value": ece, "low": 0.0834, "high": 0.1456},
            "options": {"value": ece + 0.01, "low": 0.08, "high": 0.2},
        },
        "auroc": {"vocab": 0.777, "options": 0.6},
        "intervals": {"accuracy": [0.7126, 0.7684]},
        "share_known": 0.634,
    } | changes


def cells(table: Table) -> list[list[str]]:
    cells = [[str(cell) for cell in column.cells] for column in table.columns]
    return [list(line) for line in zip(*cells, strict=True)]


def printed(tables: list[Table], width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    for table in tables:
        console.print(table)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_one_seed_shows_percent_and_intervals() -> None:
    (table,) = metrics_table([row("sft")])
    assert [column.header for column in table.columns] == [
        "Method", "Accuracy %", "ECE % vocab", "ECE % options", "NLL", "Brier", "AUROC", "Known %",
    ]  # fmt: skip
    assert cells(table) == [
        ["SFT", "74.1 [71.3–76.8]", "10.0 [8.3–14.6]", "11.0", "0.812", "0.205", "0.78", "63"]  # noqa: RUF001
    ]
    assert "n = 1,000" in str(table.title)


def test_several_seeds_show_mean_and_standard_deviation() -> None:
    values = [0.10, 0.13, 0.12]
    (table,) = metrics_table([row("cols", seed, value=v) for seed, v in enumerate(values)])
    (line,) = cells(table)
    assert line[2] == f"{100 * fmean(values):.1f} ±{100 * stdev(values):.1f}"
    assert "3 seeds" in str(table.caption)
    assert "bootstrap" not in str(table.caption)


def test_lowest_ece_is_bold_and_ties_share_it() -> None:
    text = markdown_table(
        [row("sft", value=0.1), row("ls", value=0.0502), row("cols", value=0.0498)]
    )
    assert text.count("**5.0 [") == 2
    assert "**10.0" not in text


def test_methods_stand_in_canonical_order_variants_last() -> None:
    names = ["cols-random", "coecp", "cols+ts", "sft+ts", "strange", "ls", "base", "cols", "sft"]
    assert sorted(names, key=canonical_order) == [
        "base", "sft", "sft+ts", "ls", "cols", "coecp", "cols+ts", "cols-random", "strange",
    ]  # fmt: skip
    assert label("cols-random+ts") == "CoLS-random + TS"
    assert label("combls-options@0.2m4+ts") == "CoMbLS-options@0.2m4 + TS"
    assert Method.parse("combls@0.2m4+ts").description == (
        "CogCalib: margin penalty on what the model already knows; alpha 0.2; "
        "a margin of 4 logits; temperature scaling on the calibration split"
    )
    assert Method.parse("combls-inverted-options").description == (
        "CogCalib: margin penalty on what the model does not know (control); "
        "over the answer options instead of the whole vocabulary"
    )


def test_in_domain_is_the_task_with_a_calibration_split() -> None:
    rows = [
        row("sft", task="atlas/capital"),
        row("sft", split="calibration"),
        row("sft"),
    ]
    assert [(task.task, task.in_domain) for task in group_rows(rows)] == [
        ("atlas/country", True),
        ("atlas/capital", False),
    ]


def test_named_in_domain_task_comes_first() -> None:
    rows = [row("sft", task="atlas/capital"), row("sft")]
    tables = metrics_table(rows, in_domain="atlas/country")
    assert [str(table.title).split(" ")[0] for table in tables] == [
        "atlas/country", "atlas/capital",
    ]  # fmt: skip
    assert markdown_table(rows, in_domain="atlas/country").startswith("**atlas/country")


def test_wide_tables_show_every_definition_and_the_interval_of_auroc() -> None:
    ece = {name: {"value": 0.1} for name in ("surface", "options", "vocab")}
    intervals = {"auroc": {"vocab": [0.751, 0.8], "options": None}}
    (task,) = group_rows([row("sft", ece=ece, intervals=intervals)])
    wide = columns(task, wide=True)
    assert [each.title for each in wide][1:4] == ["ECE % vocab", "ECE % options", "ECE % surface"]
    assert wide[-2].cell(task["sft"]) == "0.78 [0.75–0.80]"  # noqa: RUF001
    assert "ECE % surface" not in [each.title for each in columns(task)]
    assert columns(task)[-2].cell(task["sft"]) == "0.78"


def test_the_name_of_a_definition_is_no_markup() -> None:
    ece = {"vocab": {"value": 0.1}, "[/b]own": {"value": 0.1}}
    lines = printed(metrics_table([row("sft", ece=ece)]), 100)
    assert any("[/b]own" in line for line in lines)


def test_caption_says_what_the_nll_is() -> None:
    (table,) = metrics_table([row("sft")])
    assert "-log of the correct option's share." in str(table.caption)
    (table,) = metrics_table([row("sft"), row("sft+ts")])
    assert "(+ TS: under the temperature of options)" in str(table.caption)
    (table,) = metrics_table([row("sft", ece={"mean": {"value": 0.2}}, auroc={})])
    assert "mean of -log p over the answer tokens." in str(table.caption)


def test_small_samples_are_flagged() -> None:
    (table,) = metrics_table([row("sft", n=150)])
    assert "n = 150 < 500" in str(table.caption)
    (table,) = metrics_table([row("sft", n=500)])
    assert "Small sample" not in str(table.caption)


def test_open_ended_rows_show_their_own_definitions() -> None:
    ece = {"mean": {"value": 0.2, "low": 0.1, "high": 0.3}, "joint": {"value": 0.1}}
    (table,) = metrics_table([row("sft", ece=ece, auroc={}, share_known=None)])
    headers = [column.header for column in table.columns]
    assert headers[2:4] == ["ECE % mean", "ECE % joint"]
    assert "Known %" not in headers
    assert cells(table)[0][2:] == ["20.0 [10.0–30.0]", "10.0", "0.812", "0.205", "–"]  # noqa: RUF001


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf")])
def test_undefined_numbers_show_a_dash(missing: float | None) -> None:
    (table,) = metrics_table([row("sft", auroc={"vocab": missing}, nll=missing)])
    assert cells(table)[0][4] == cells(table)[0][6] == "–"  # noqa: RUF001


@pytest.mark.parametrize("width", [80, 100, 140])
def test_tables_fit_the_terminal_and_break_no_number(width: int, run: Run, single: Run) -> None:
    for each in (run, single):
        lines = printed(metrics_table(each.rows), width)
        assert max(len(line.rstrip()) for line in lines) <= width
        text = "\n".join(lines)
        for task in group_rows(each.rows):
            for summary in task.methods:
                assert f"{100 * (summary.ece['vocab'].mean or 0):.1f}" in text
        assert all(line.count("[") == line.count("]") for line in lines), "a broken interval"


def test_malformed_rows_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"row 0 misses \['brier'\]"):
        metrics_table([{k: v for k, v in row("sft").items() if k != "brier"}])
    with pytest.raises(ValueError, match="row 1 repeats"):
        metrics_table([row("sft"), row("sft")])
    with pytest.raises(ValueError, match=r"split must be one of .*\['test'\], got 'dev'"):
        metrics_table([row("sft")], split="dev")
    with pytest.raises(ValueError, match="share no confidence definition"):
        metrics_table([row("sft"), row("ls", ece={"mean": {"value": 0.1}})])


def test_markdown_escapes_pipes() -> None:
    assert "a\\|b" in markdown_table([row("a|b")])
