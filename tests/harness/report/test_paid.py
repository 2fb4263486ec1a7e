"""Whether fine-tuning paid: what got better is no loss, and what got worse is named."""

from __future__ import annotations

import pytest

from cogcalib.harness.report.verdict import Verdict
from cogcalib.harness.report.verdict_words import change, paid
from cogcalib.metrics import PairedDifference

SURE = 0.02


def verdict(**differences: float) -> Verdict:
    """SFT against the base model; an interval excludes 0 where a difference exceeds `SURE`."""
    found = {"accuracy": 0.0, "brier": 0.0, "nll": 0.0, "aurc": 0.0} | differences
    return Verdict(
        "sft",
        "base",
        {name: PairedDifference(d, d - SURE, d + SURE, 0.5) for name, d in found.items()},
    )


@pytest.mark.parametrize(
    ("differences", "result"),
    [
        ({}, "did not pay"),
        ({"accuracy": 0.014}, "did not pay"),
        ({"accuracy": -0.05}, "did not pay"),
        ({"nll": 0.05, "aurc": 0.05}, "did not pay"),
        ({"accuracy": 0.05}, "paid"),
        ({"accuracy": 0.014, "nll": -0.041}, "paid"),
        ({"brier": -0.05, "aurc": -0.05}, "paid"),
        ({"accuracy": 0.05, "nll": 0.05}, "paid in part, better in accuracy, worse in NLL"),
        ({"accuracy": -0.05, "nll": -0.05}, "paid in part, better in NLL, worse in accuracy"),
        ({"accuracy": 0.05, "aurc": 0.05}, "paid in part, better in accuracy, worse in AURC"),
        (
            {"accuracy": 0.05, "brier": -0.05, "nll": 0.05, "aurc": -0.05},
            "paid in part, better in accuracy, Brier score and AURC, worse in NLL",
        ),
        ({"aurc": -0.05}, "paid in part, better in AURC"),
    ],
)
def test_what_improved_decides_and_what_got_worse_is_named(
    differences: dict[str, float], result: str
) -> None:
    said = paid(verdict(**differences))
    assert said.startswith(f"Fine-tuning itself {result}: SFT against the base model, accuracy ")
    # What the verdict rests on stands beside it.
    for name in ("Brier score", "NLL", "AURC"):
        assert f", {name} " in said.split(": ", 1)[1]


def test_only_what_is_equal_is_called_so() -> None:
    def shown(low: float, high: float) -> str:
        differences = {"accuracy": PairedDifference(0.0, low, high, 1.0)}
        return change(Verdict("sft", "base", differences), "accuracy")

    assert shown(0.0, 0.0) == "accuracy equal"
    assert shown(0.0, 1e-9) == "accuracy equal"
    # Not every interval that is shown as 0 is one.
    assert shown(0.0, 1e-4) == "accuracy +0.0 [+0.0 to +0.0] points"
    assert "nan" in shown(float("nan"), float("nan"))
