"""The headline says what the numbers say, whichever way they come out."""

from __future__ import annotations

from typing import Any

from cogcalib.report.headline import headline
from cogcalib.report.summary import TaskSummary, summarise

EVEN = {"cols": (0.034, 0.741), "sft": (0.123, 0.740)}


def task(
    methods: dict[str, tuple[float, float]], *, half: float = 0.01, seeds: int = 1, n: int = 1000
) -> TaskSummary:
    rows: list[dict[str, Any]] = [
        {
            "method": method, "task": "t", "split": "test", "seed": seed, "n": n,
            "accuracy": accuracy, "nll": 1.0, "brier": 0.1,
            "ece": {"vocab": {"value": ece, "low": ece - half, "high": ece + half}},
        }
        for method, (ece, accuracy) in methods.items()
        for seed in range(seeds)
    ]  # fmt: skip
    return summarise(rows)[0]


def text(summary: TaskSummary) -> str:
    return " ".join(headline(summary)).replace("\N{NO-BREAK SPACE}", " ")


def test_improvement() -> None:
    said = text(task(EVEN))
    assert "CoLS lowers ECE from 12.3 % to 3.4 % at accuracy 74.1 % (SFT 74.0 %)." in said
    assert "do not overlap" in said


def test_failure_is_said_plainly() -> None:
    said = text(task({"cols": (0.15, 0.74), "sft": (0.12, 0.74)}))
    assert "CoLS does not help here: ECE rises from 12.0 % to 15.0 %" in said
    assert "leaves ECE at 12.0 %" in text(task({"cols": (0.12, 0.74), "sft": (0.12, 0.74)}))


def test_loss_of_accuracy_is_said() -> None:
    said = text(task({"cols": (0.03, 0.70), "sft": (0.12, 0.74)}))
    assert "while accuracy falls from 74.0 % to 70.0 %" in said


def test_better_temperature_scaling_is_said() -> None:
    assert "does better still: 2.0 %" in text(task(EVEN | {"sft+ts": (0.02, 0.74)}))
    assert "reaches 5.0 %, above CoLS" in text(task(EVEN | {"sft+ts": (0.05, 0.74)}))
    assert "equally well: 3.4 %" in text(task(EVEN | {"sft+ts": (0.034, 0.74)}))


def test_doubt_is_said() -> None:
    assert "intervals overlap" in text(task(EVEN, half=0.06))
    assert "lower than that of SFT in 3 of 3 seeds" in text(task(EVEN, seeds=3))
    assert "Only 150 questions" in text(task(EVEN, n=150))
    assert "best of CoLS, CoECP" in text(task(EVEN | {"coecp": (0.06, 0.74)}))


def test_without_comparison_the_lowest_ece_is_named() -> None:
    said = text(task({"base": (0.2, 0.5), "sft": (0.1, 0.7)}))
    assert said == "SFT has the lowest ECE on t: 10.0 % at accuracy 70.0 %."
