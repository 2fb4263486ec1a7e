"""The rules of selection, and that tune, reproduce and report follow the same ones."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cogcalib.harness.report import Run
from cogcalib.harness.report.singled_out import single_out
from cogcalib.harness.report.summary import group_rows
from cogcalib.harness.reproduce import execute
from cogcalib.harness.reproduce.definitions import Best
from cogcalib.harness.run_folder import RunFolder
from cogcalib.harness.selection import ACCURACY_FLOOR, Trial, measure, select, trials_of_rows
from cogcalib.harness.tuning.grid import Tuned, recommend
from cogcalib.records import Prediction

FRACTIONS = st.integers(0, 1000).map(lambda value: value / 1000)
NAMES = ("sft", "cols@0.2", "cols-options@0.1", "cols-options-gap", "combls@0.2m4")


def trial(method: str, accuracy: float, ece: float, nll: float = 1.0, seed: int = 0) -> Trial:
    return Trial(method, seed, accuracy, nll, {"options": ece, "vocab": 1 - ece})


TRIALS = [
    trial("sft", 0.700, 0.20, 1.00),
    trial("a", 0.710, 0.15, 0.90),
    trial("b", 0.695, 0.08, 0.80),
    trial("c", 0.694, 0.02, 0.85),
    trial("d", 0.650, 0.01, 0.70),
]


def test_the_only_one_is_called_so():
    trials = [
        Trial("sft", 0, 0.7, 1.0, {"options": 0.1}),
        Trial("a", 0, 0.7, 0.9, {"options": 0.1}),
    ]
    trials += [Trial("b", 0, 0.6, 0.8, {"options": 0.1})]
    reason = select(["a", "b"], trials, "nll").reason
    assert reason.startswith("lowest NLL, 0.900, the only one of 2 within 0.5 points")


def test_lowest_ece_within_half_a_point_of_sft() -> None:
    found = select(["a", "b", "c", "d"], TRIALS, "ece")
    assert found.chosen == "b"  # c is 0.6 points below, b exactly 0.5
    assert found.reason == (
        "lowest ECE (options), 8.0 %, of the 2 of 4 within 0.5 points of SFT's accuracy, 70.0 %"
    )
    floor = "within 0.5 points of SFT's accuracy, 70.0 %"
    alone, both = (select(names, TRIALS, "ece").reason for names in (["a"], ["a", "b"]))
    assert alone == f"lowest ECE (options), 15.0 %, the only one, {floor}"
    assert both == f"lowest ECE (options), 8.0 %, of 2, all {floor}"


def test_lowest_nll_within_half_a_point_of_sft() -> None:
    found = select(["a", "b", "c", "d"], TRIALS, "nll")
    assert found.chosen == "b"  # c is too inaccurate, d as well
    assert found.reason == (
        "lowest NLL, 0.800, of the 2 of 4 within 0.5 points of SFT's accuracy, 70.0 %"
    )


def test_the_most_accurate_if_none_keeps_the_accuracy() -> None:
    trials = [trial("sft", 0.9, 0.2), *TRIALS[1:]]
    found = select(["a", "b", "c", "d"], trials, "ece")
    assert found.chosen == "a"
    assert found.reason.startswith("most accurate, 71.0 %: none within 0.5 points")


def test_several_seeds_count_by_their_mean() -> None:
    other = [trial(t.method, t.accuracy, 0.5 * (t.method != "a"), seed=1) for t in TRIALS]
    assert select(["a", "b"], [*TRIALS, *other], "ece").chosen == "a"


def test_of_equals_the_first() -> None:
    trials = [TRIALS[0], *(trial(name, 0.7, 0.1) for name in "abc")]
    assert select(["b", "a", "c"], trials, "ece").chosen == "b"
    assert select(["c", "a", "b"], trials, "nll").chosen == "c"


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="one of e, got none"):
        select(["a", "e"], TRIALS, "ece")
    with pytest.raises(ValueError, match="one of sft, got none"):
        select(["a"], TRIALS[1:], "ece")
    with pytest.raises(ValueError, match="at least one method"):
        select([], TRIALS, "nll")


def test_predictions_of_a_test_split_are_refused() -> None:
    row = Prediction(
        id="q", task="t", split="test", answer="A", prediction="A", correct=True, nll=0.1,
        confidence={"vocab": 0.9}, option_logprobs=None, model="m", run="r",
    )  # fmt: skip
    with pytest.raises(ValueError, match="calibration only, got test"):
        measure([row], "sft", 0)


def row(method: str, split: str, accuracy: float | None, ece: float, nll: float | None) -> Any:
    return {
        "method": method, "task": "t", "split": split, "seed": 0, "n": 1000,
        "accuracy": accuracy, "nll": nll, "brier": 0.1,
        "ece": {"vocab": {"value": None}, "options": {"value": ece}},
    }  # fmt: skip


def test_rows_of_other_splits_and_without_an_accuracy_make_no_trial() -> None:
    rows = [row("a", "test", 1.0, 0, 0), row("b", "calibration", None, 0, 0)]
    rows += [row("c", "calibration", 0.5, 0.1, None)]
    assert trials_of_rows(rows) == [Trial("c", 0, 0.5, float("inf"), {"options": 0.1})]


@given(
    st.lists(st.tuples(FRACTIONS, FRACTIONS, FRACTIONS), min_size=len(NAMES), max_size=len(NAMES)),
    st.sampled_from(["ece", "nll"]),
)
def test_tune_reproduce_and_report_choose_the_same(figures: list[Any], rule: Any) -> None:
    rows = [
        row(name, "calibration", *numbers) for name, numbers in zip(NAMES, figures, strict=True)
    ]
    # The test split says the opposite.
    tests = [row(r["method"], "test", 1.0, 1 - r["ece"]["options"]["value"], 1.0) for r in rows]
    run = Run(RunFolder(Path("x")), (*rows, *tests), {"config": {"report": {"rule": rule}}}, "")
    reported = single_out(run, group_rows(run.rows)[0])
    tuned = [Tuned(name, name, "") for name in NAMES[1:]]
    recommended = recommend(tuned, trials_of_rows(rows), rule)
    assert recommended is not None
    folder: Any = SimpleNamespace(predictions=lambda *_: Path("/"), path=Path("/"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            execute,
            "read_rows",
            lambda _, name, seed: [r for r in (*rows, *tests) if r["method"] == name],
        )
        best = Best(among=NAMES[1:])
        names = {name: name for name in NAMES}
        reproduced = execute.choose_best(folder, best, names, [0], rule)
    assert reported.method == recommended.chosen == reproduced
    assert (reported.reason, reported.candidates) == (recommended.reason, 4)
    by_name = {each["method"]: each for each in rows}
    chosen, floor = by_name[reproduced], by_name["sft"]["accuracy"] - ACCURACY_FLOOR - 1e-9
    others = [by_name[name] for name in NAMES[1:]]
    enough = [each for each in others if each["accuracy"] >= floor]
    if not enough:
        assert chosen["accuracy"] == max(each["accuracy"] for each in others)
    elif rule == "nll":
        assert chosen["nll"] == min(each["nll"] for each in enough)
    else:
        errors = [each["ece"]["options"]["value"] for each in enough]
        assert chosen["ece"]["options"]["value"] == min(errors)
