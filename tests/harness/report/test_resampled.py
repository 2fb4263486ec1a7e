"""Differences between methods: against the definitions, and marked only where they are real."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cogcalib.harness.config import parse_config
from cogcalib.harness.report.resampled import Resampled, difference, resample
from cogcalib.harness.reproduce import Place, load_table
from cogcalib.harness.reproduce.markdown import (
    MISSING,
    best_rows,
    difference_text,
    methods_page,
)
from cogcalib.harness.reproduce.table_rows import MethodCost, RowGroup, TableRow
from cogcalib.metrics import aurc, brier_score, expected_calibration_error, resample_weights
from cogcalib.records import Prediction


def predictions(confidence: np.ndarray, correct: np.ndarray, nll: float = 0.5) -> list[Prediction]:
    return [
        Prediction(
            id=f"q{index}", task="t", split="test", answer="A", prediction="A",
            correct=bool(right), nll=nll, confidence={"vocab": float(c), "options": float(c)},
            option_logprobs=None, model="m", run="r",
        )
        for index, (c, right) in enumerate(zip(confidence, correct, strict=True))
    ]  # fmt: skip


def drawn(n: int, seed: int, overconfident: float = 0.0) -> list[Prediction]:
    source = np.random.default_rng(seed)
    truth = source.uniform(0.3, 0.9, n)
    return predictions(np.minimum(1.0, truth + overconfident), source.random(n) < truth)


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 1 / 15, 0.2, 0.4, 0.73, 1.0]), st.booleans()),
             min_size=2, max_size=20)
)  # fmt: skip
def test_resamples_equal_the_metrics_on_the_resampled_questions(
    rows: list[tuple[float, bool]],
) -> None:
    confidence, correct = (np.array(column) for column in zip(*rows, strict=True))
    made = predictions(confidence, correct)
    found = resample({0: made}, resamples=3, ranking=3)
    weights = resample_weights(len(rows), 3)
    shared = resample({0: made}, resamples=3, ranking=3, weights=weights)
    for metric, draws in found.draws.items():
        np.testing.assert_array_equal(shared.draws[metric], draws)
    counts = np.rint(weights * len(rows)).astype(int)
    # Questions are in the order of their ids, as text.
    order = sorted(range(len(rows)), key=lambda index: made[index].id)
    for draw, count in enumerate(counts):
        again = np.repeat(np.array(order), count)
        ece = expected_calibration_error(confidence[again], correct[again])
        assert found.draws["ece.vocab"][0, draw] == pytest.approx(ece, abs=1e-12)
        brier = brier_score(confidence[again], correct[again])
        assert found.draws["brier"][0, draw] == pytest.approx(brier, abs=1e-12)
        ranked = aurc(confidence[again], correct[again])
        assert found.draws["aurc"][0, draw] == pytest.approx(ranked, abs=1e-12)
        assert found.draws["accuracy"][0, draw] == pytest.approx(correct[again].mean())


def test_a_difference_is_averaged_over_the_seeds_that_both_have() -> None:
    one, two, three = (drawn(200, seed) for seed in range(3))
    both, other = resample({0: one, 1: two, 7: one}), resample({1: three, 0: two})
    for metric in ("accuracy", "nll", "ece.vocab"):
        alone = [resample({0: run}).mean(metric) for run in (one, two, two, three)]
        expected = (alone[0] - alone[2] + alone[1] - alone[3]) / 2
        assert difference(both, other, metric).difference == pytest.approx(expected)
    with pytest.raises(ValueError, match="must share seeds"):
        difference(resample({0: one}), resample({1: one}), "nll")


def test_what_only_some_trainings_show_is_no_difference() -> None:
    """Questions alone would call it one: every seed answers the same 2,000 of them."""
    base = {seed: drawn(2000, 9) for seed in range(5)}
    lucky = {seed: drawn(2000, 9, 0.3 if seed == 0 else 0.0) for seed in range(5)}
    assert not difference(resample(lucky), resample(base), "ece.vocab").significant
    every = {seed: drawn(2000, 9, 0.1) for seed in range(5)}
    assert difference(resample(every), resample(base), "ece.vocab").significant


def test_seeds_with_other_questions_are_refused() -> None:
    with pytest.raises(ValueError, match="same questions"):
        resample({0: drawn(20, 0), 1: drawn(21, 0)})


def test_a_real_difference_is_marked_and_chance_is_not() -> None:
    calibrated, other, overconfident = drawn(800, 0), drawn(800, 1), drawn(800, 0, 0.3)
    good, again, bad = (resample({0: run}) for run in (calibrated, other, overconfident))
    found = difference(bad, good, "ece.vocab")
    assert found.significant
    assert found.low > 0.1
    assert difference_text(found, "ece.vocab").endswith("*")
    assert not difference(again, good, "ece.vocab").significant
    assert not difference(good, good, "ece.vocab").significant
    assert "*" not in difference_text(difference(again, good, "ece.vocab"), "ece.vocab")


def group_of(runs: dict[str, list[Prediction]], root: Path) -> RowGroup:
    rows = []
    for name, run in runs.items():
        found = resample({0: run})
        values = {metric: tuple(value.tolist()) for metric, value in found.values.items()}
        rows.append(TableRow(name, name, (0,), values, found, MethodCost(1.0), chosen=False))
    config = parse_config("name: x")
    place = Place("m", "t", "default", root, config, tuple(runs), tested_on=("t",))
    return RowGroup(place, "t", True, 800, "options", tuple(rows))


def table_of(runs: dict[str, list[Prediction]], root: Path) -> str:
    return "\n".join(methods_page(load_table("main"), [group_of(runs, root)]))


def test_the_best_is_bold_only_where_it_beats_every_other(tmp_path: Path) -> None:
    good, bad = drawn(800, 0), drawn(800, 0, 0.3)
    ece = f"{100 * resample({0: good}).mean('ece.vocab'):.1f}"
    alone = table_of({"sft": bad, "cols": good}, tmp_path)
    assert f"**{ece}**" in alone
    beside_a_peer = table_of({"sft": bad, "cols": good, "coecp": drawn(800, 1)}, tmp_path)
    assert "**" not in beside_a_peer
    assert "| CoLS |" in beside_a_peer.split("Against SFT")[1]


def test_the_record_names_the_rows_in_bold(tmp_path: Path) -> None:
    runs = {"sft": drawn(800, 0, 0.3), "cols": drawn(800, 0)}
    best = best_rows(group_of(runs, tmp_path))
    assert best.pop("ece.vocab") == best.pop("ece.options") == best.pop("brier") == "cols"
    assert not best  # the answers are the same, and so are accuracy and NLL
    assert table_of(runs, tmp_path).count("**") == 6
    assert best_rows(group_of(runs | {"coecp": drawn(800, 1)}, tmp_path)) == {}


def test_a_model_that_is_never_right_nor_sure_is_not_the_best(tmp_path: Path) -> None:
    never = predictions(np.zeros(800), np.zeros(800, dtype=bool))
    good, bad = drawn(800, 0), drawn(800, 0, 0.3)
    page = table_of({"sft": bad, "cols": good, "ls": never}, tmp_path)
    ece = f"{100 * resample({0: good}).mean('ece.vocab'):.1f}"
    assert f"**{ece}**" in page
    assert "**0.0**" not in page


def test_a_method_without_a_definition_has_no_figure_there(tmp_path: Path) -> None:
    without = [replace(row, confidence={"vocab": 0.5}) for row in drawn(800, 0)]
    page = table_of({"sft": drawn(800, 1), "laplace": without}, tmp_path)
    line = next(row for row in page.splitlines() if row.startswith("| Laplace |"))
    assert line.split(" | ")[2] == MISSING


def test_an_infinite_nll_does_not_become_nan() -> None:
    endless = predictions(np.full(20, 0.5), np.arange(20) % 2 == 0, nll=float("inf"))
    fine = predictions(np.full(20, 0.5), np.arange(20) % 2 == 0)
    found = difference(resample({0: endless}), resample({0: fine}), "nll")
    assert isinstance(resample({0: endless}), Resampled)
    assert found.low == float("inf")
