"""Tables: the numbers of the rows, in percent, with interval or spread, in the right order."""

from __future__ import annotations

import io
import math
import re
from statistics import fmean, stdev
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from cogcalib.harness.config.methods import Method, canonical_order, label
from cogcalib.harness.report import Run, markdown_table, metrics_table
from cogcalib.harness.report.columns import calibration_columns, caption, columns, use_columns
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
            "vocab": {"value": ece + 0.01, "low": 0.08, "high": 0.2, "floor": [0.021, 0.052]},
            "options": {"value": ece, "low": 0.0834, "high": 0.1456, "floor": [0.02, 0.051]},
        },
        "auroc": {"vocab": 0.6, "options": 0.777},
        "aurc": {"options": {"value": 0.1234}},
        "coverage_at_90": {"options": {"value": 0.412, "threshold": 0.831}},
        "coverage_at_95": {"options": {"value": 0.0, "threshold": None}},
        "risk_coverage": {"options": {"coverage": [0.5, 1.0], "error": [0.1, 0.259]}},
        "intervals": {"accuracy": [0.7126, 0.7684]},
        "known_first_epoch": 0.43,
        "known_last_epoch": 0.97,
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
    table, use = metrics_table([row("cols")])
    assert [column.header for column in table.columns] == [
        "Method", "Accuracy %", "ECE % options", "floor", "ECE % vocab", "NLL", "Brier",
    ]  # fmt: skip
    assert cells(table) == [
        ["CoLS", "74.1 [71.3–76.8]", "10.0 [8.3–14.6]", "2.0–5.1", "11.0", "0.812", "0.205"]  # noqa: RUF001
    ]
    at = "accuracy (from confidence %)"
    assert [column.header for column in use.columns] == [
        "Method", "AURC", f"Answered % at 90% {at}", f"Answered % at 95% {at}", "Known %",
    ]  # fmt: skip
    assert cells(use) == [["CoLS", "0.123", "41.2 (83.1)", "0.0", "43–97!"]]  # noqa: RUF001
    assert "n = 1,000" in str(table.title)


def test_several_seeds_show_mean_and_standard_deviation() -> None:
    values = [0.10, 0.13, 0.12]
    table, *_ = metrics_table([row("cols", seed, value=v) for seed, v in enumerate(values)])
    (line,) = cells(table)
    assert line[2] == f"{100 * fmean(values):.1f} ±{100 * stdev(values):.1f}"
    assert "3 seeds" in str(table.caption)
    assert "bootstrap" not in str(table.caption)


def test_lowest_ece_is_bold_and_ties_share_it() -> None:
    text = markdown_table(
        [row("sft", value=0.1), row("ls", value=0.0602), row("cols", value=0.0598)]
    )
    assert text.count("**6.0 [") == 2
    assert "**10.0" not in text


@pytest.mark.parametrize(
    ("values", "bold"),
    [
        ({"sft": 0.1, "ls": 0.050, "cols": 0.048}, ""),  # both within the floor, 2.0 to 5.1
        ({"sft": 0.1, "ls": 0.052, "cols": 0.048}, "4.8"),
        ({"sft": 0.1, "ls": 0.060, "cols": 0.055}, "5.5"),
    ],
)
def test_two_within_the_noise_floor_are_not_ranked(values: dict[str, float], bold: str) -> None:
    rows = [row(name, value=value) for name, value in values.items()]
    text = markdown_table(rows)
    assert re.findall(r"\*\*(\d\.\d) \[", text) == [bold] * bool(bold)
    said = "none is marked, those in the floor are not ranked"
    assert (said in text) == (not bold)
    assert "perfectly calibrated model with the same confidences" in text


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 120)), min_size=1, max_size=6))
def test_nothing_within_the_floor_is_marked_beside_another(pairs: list[tuple[int, int]]) -> None:
    """Whatever the floors: at most one method within its own floor is ever the best."""
    rows = [
        row(name, ece={"options": {"value": value / 1000, "floor": [0.0, high / 1000]}})
        for name, (value, high) in zip(("base", "sft", "ls", "mbls", "cols", "combls"), pairs,
                                       strict=False)
    ]  # fmt: skip
    (task,) = group_rows(rows)
    within = {each.method for each in task.methods if each.within_floor("options")}
    assert within == {
        each["method"] for each in rows
        if each["ece"]["options"]["value"] <= each["ece"]["options"]["floor"][1]
    }  # fmt: skip
    assert len(task.best & within) <= 1
    if not within:
        assert task.best
    if task.best & within:
        assert len(within) == 1


def test_the_gate_of_a_saturated_method_is_warned_of() -> None:
    open_gate, closed = row("cols"), row("coecp", known_last_epoch=0.95)
    (task,) = group_rows([open_gate, closed, row("sft"), row("combls", known_first_epoch=None)])
    (known,) = (each for each in use_columns(task) if each.title == "Known %")
    shown = {each.method: known.cell(each) for each in task.methods}
    assert shown == {"sft": "–", "cols": "43–97!", "combls": "––97!", "coecp": "43–95"}  # noqa: RUF001
    assert "!: above 95% the gate hardly tells examples apart" in caption(task)


def test_rows_of_earlier_releases_have_no_floor_nor_coverage() -> None:
    old = row("cols", ece={"vocab": {"value": 0.1}, "options": {"value": 0.2}})
    for key in ("coverage_at_90", "coverage_at_95", "risk_coverage", "known_first_epoch"):
        del old[key]
    table, use = metrics_table([old | {"aurc": {"vocab": {"value": 0.1}}}])
    headers = [str(column.header) for column in table.columns]
    assert headers == ["Method", "Accuracy %", "ECE % options", "ECE % vocab", "NLL", "Brier"]
    assert [str(column.header) for column in use.columns] == ["Method", "AURC", "Known %"]
    assert "Brier and AURC: of vocab." in str(table.caption)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"coverage_at_90": {"options": {"value": "all"}}}, "coverage_at_90"),
        ({"risk_coverage": {"options": {"coverage": [1.0], "error": []}}}, "risk_coverage"),
        ({"ece": {"options": {"value": 0.1, "floor": [0.1]}}}, "ece"),
        ({"known_last_epoch": "most"}, "known_last_epoch"),
    ],
)
def test_malformed_optional_figures_are_named(change: dict[str, Any], key: str) -> None:
    with pytest.raises(ValueError, match=f"metrics row 0: {key} cannot be"):
        metrics_table([row("sft", **change)])


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
    assert [str(table.title).split(" ")[0] for table in tables[::2]] == [
        "atlas/country", "atlas/capital",
    ]  # fmt: skip
    assert markdown_table(rows, in_domain="atlas/country").startswith("**atlas/country")


def test_wide_tables_show_every_definition_and_the_interval_of_auroc() -> None:
    ece = {
        name: {"value": 0.1, "floor": [low, 0.05]}
        for name, low in (("surface", 0.03), ("options", 0.01), ("vocab", 0.02))
    }
    intervals = {"auroc": {"options": [0.751, 0.8], "vocab": None}}
    (task,) = group_rows([row("sft", ece=ece, intervals=intervals)])
    wide = {each.title: each.cell(task["sft"]) for each in columns(task)}
    floors = [each.cell(task["sft"]) for each in columns(task) if each.title == "floor"]
    assert [title for title in wide if "ECE" in title] == [
        "ECE % options", "ECE % vocab", "ECE % surface",
    ]  # fmt: skip
    assert floors == ["1.0–5.0", "2.0–5.0", "3.0–5.0"]  # noqa: RUF001
    assert wide["AUROC"] == "0.78 [0.75–0.80]"  # noqa: RUF001
    assert wide["Answered % at 90% accuracy (from confidence %)"] == "41.2 (83.1)"
    assert wide["Answered % at 95% accuracy (from confidence %)"] == "0.0"
    assert "ECE % surface" not in [each.title for each in calibration_columns(task)]


def test_the_name_of_a_definition_is_no_markup() -> None:
    ece = {"vocab": {"value": 0.1}, "[/b]own": {"value": 0.1}}
    lines = printed(metrics_table([row("sft", ece=ece)]), 100)
    assert any("[/b]own" in line for line in lines)


def test_caption_says_what_the_nll_is() -> None:
    table, *_ = metrics_table([row("sft")])
    assert "-log of the correct option's share." in str(table.caption)
    table, *_ = metrics_table([row("sft"), row("sft+ts")])
    assert "(+ TS: under the temperature of options)" in str(table.caption)
    table, *_ = metrics_table([row("sft", ece={"mean": {"value": 0.2}}, auroc={})])
    assert "mean of -log p over the answer tokens." in str(table.caption)


@pytest.mark.parametrize("lacking", [row("sft", nll=math.inf), row("sft+platt")])
def test_a_dash_for_the_nll_is_explained(lacking: dict[str, Any]) -> None:
    dash = "–: a method has none of its own, or an answer had no probability"  # noqa: RUF001
    (without, *_), (with_one, *_) = metrics_table([row("base")]), metrics_table([lacking])
    assert dash not in str(without.caption)
    assert dash in str(with_one.caption)


def test_small_samples_are_flagged() -> None:
    table, *_ = metrics_table([row("sft", n=150)])
    assert "n = 150 < 500" in str(table.caption)
    table, *_ = metrics_table([row("sft", n=500)])
    assert "Small sample" not in str(table.caption)


def test_open_ended_rows_show_their_own_definitions() -> None:
    ece = {"mean": {"value": 0.2, "low": 0.1, "high": 0.3}, "joint": {"value": 0.1}}
    table, *_ = metrics_table([row("sft", ece=ece, auroc={}, aurc={"mean": {"value": None}})])
    headers = [column.header for column in table.columns]
    assert headers[2:4] == ["ECE % mean", "ECE % joint"]
    assert "Known %" not in headers
    assert cells(table)[0][2:] == ["20.0 [10.0–30.0]", "10.0", "0.812", "0.205"]  # noqa: RUF001


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf")])
def test_undefined_numbers_show_a_dash(missing: float | None) -> None:
    rows = [row("sft", auroc={"options": missing}, nll=missing)]
    (line,) = [each for each in markdown_table(rows).splitlines() if each.startswith("| SFT")]
    shown = line.split(" | ")
    assert shown[6] == shown[8] == "–"  # noqa: RUF001


@pytest.mark.parametrize("width", [80, 100, 140])
def test_tables_fit_the_terminal_and_break_no_number(width: int, run: Run, single: Run) -> None:
    for each in (run, single):
        lines = printed(metrics_table(each.rows), width)
        assert max(len(line.rstrip()) for line in lines) <= width
        text = "\n".join(lines)
        for task in group_rows(each.rows):
            for summary in task.methods:
                assert f"{100 * (summary.ece['options'].mean or 0):.1f}" in text
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
