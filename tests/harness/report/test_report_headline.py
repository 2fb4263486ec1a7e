"""The headline says what the numbers say, whichever way they come out."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cogcalib.harness.report import Run
from cogcalib.harness.report.headline import headline
from cogcalib.harness.report.page_parts import figures_aside
from cogcalib.harness.report.singled_out import single_out
from cogcalib.harness.report.summary import group_rows
from cogcalib.harness.report.verdict import Judge, Verdict
from cogcalib.harness.run_folder import RunFolder
from cogcalib.jsonl import write_jsonl
from cogcalib.metrics import aurc, expected_calibration_error, paired_bootstrap
from cogcalib.records import Prediction

Figures = dict[str, tuple[float, float]]
EVEN: Figures = {"cols": (0.034, 0.741), "sft": (0.123, 0.740)}


def rows(split: str, figures: Figures, seeds: int, n: int) -> list[dict[str, Any]]:
    return [
        {
            "method": method, "task": "t", "split": split, "seed": seed, "n": n,
            "accuracy": accuracy, "nll": 1.0, "brier": 0.1,
            "ece": {"vocab": {"value": ece, "low": ece - 0.01, "high": ece + 0.01}},
        }
        for method, (ece, accuracy) in figures.items()
        for seed in range(seeds)
    ]  # fmt: skip


def made(
    test: Figures,
    calibration: Figures | None = None,
    *,
    seeds: int = 1,
    n: int = 1000,
    path: Path = Path("nowhere"),
) -> Run:
    """A run with these (ECE, accuracy), chosen by ECE; on calibration the same unless given."""
    tuned = test if calibration is None else calibration
    both = [*rows("test", test, seeds, n), *rows("calibration", tuned, seeds, n)]
    record = {"config": {"report": {"rule": "ece"}}}
    return Run(folder=RunFolder(path), rows=tuple(both), record=record, config_text="")


def text(run: Run) -> str:
    said = " ".join(headline(run, group_rows(run.rows)[0]))
    return said.replace("\N{NO-BREAK SPACE}", " ")


def lead(run: Run) -> str:
    """What stands first."""
    return headline(run, group_rows(run.rows)[0])[0]


def chosen(run: Run) -> str | None:
    return single_out(run, group_rows(run.rows)[0]).method


def test_improvement() -> None:
    said = text(made(EVEN))
    assert "CoLS lowers ECE from 12.3 % to 3.4 % at accuracy 74.1 % (SFT 74.0 %)." in said
    assert "CoLS is the only CogCalib variant of this run." in said


def test_failure_is_said_plainly() -> None:
    said = text(made({"cols": (0.15, 0.74), "sft": (0.12, 0.74)}))
    assert "CoLS does not help here: ECE rises from 12.0 % to 15.0 %" in said
    assert "leaves ECE at 12.0 %" in text(made({"cols": (0.12, 0.74), "sft": (0.12, 0.74)}))


def test_loss_of_accuracy_is_said() -> None:
    said = text(made({"cols": (0.03, 0.70), "sft": (0.12, 0.74)}, EVEN))
    assert "while accuracy falls from 74.0 % to 70.0 %" in said


def test_variant_is_chosen_on_calibration_though_another_wins_the_test() -> None:
    test = {"sft": (0.12, 0.74), "cols": (0.01, 0.74), "coecp-options": (0.05, 0.74)}
    calibration = {"sft": (0.12, 0.74), "cols": (0.07, 0.75), "coecp-options": (0.06, 0.738)}
    run = made(test, calibration, seeds=2)
    assert chosen(run) == "coecp-options"
    said = text(run)
    assert "CoECP-options lowers ECE from 12.0 % to 5.0 %" in said
    assert "On the calibration split CoECP-options was chosen out of 2 variants: " in said
    assert "lowest ECE (vocab), 6.0 %" in said
    assert "of 2, all within 0.5 points of SFT's accuracy, 74.0 %; means over seeds." in said


@pytest.mark.parametrize(("accuracy", "expected"), [(0.735, "cols"), (0.734, "combls")])
def test_only_variants_that_keep_the_accuracy_compete(accuracy: float, expected: str) -> None:
    calibration = {"sft": (0.12, 0.74), "cols": (0.01, accuracy), "combls": (0.05, 0.76)}
    assert chosen(made(calibration)) == expected


def test_where_none_keeps_the_accuracy_the_most_accurate_is_taken_and_it_is_said() -> None:
    run = made({"sft": (0.12, 0.74), "cols": (0.1, 0.72), "combls": (0.01, 0.7)})
    assert chosen(run) == "cols"
    assert "most accurate, 72.0 %: none within 0.5 points of SFT's accuracy" in text(run)


def test_the_rule_is_that_of_the_configuration() -> None:
    run = made({"sft": (0.12, 0.74), "cols": (0.01, 0.74), "combls": (0.05, 0.74)})
    rows = tuple(row | {"nll": 0.5} if row["method"] == "combls" else row for row in run.rows)
    assert chosen(replace(run, rows=rows)) == "cols"
    record = {"config": {"report": {"resamples": 10, "rule": "nll"}}}
    asked = replace(run, rows=rows, record=record)
    assert chosen(asked) == "combls"
    assert "CoMbLS was chosen out of 2 variants: lowest NLL" in text(asked)
    assert "means over seeds" not in text(asked)
    assert chosen(replace(run, rows=rows, record={})) == "combls", "older than the key"


def test_the_methods_of_a_tuned_run_are_singled_out() -> None:
    figures = {
        "sft": (0.12, 0.74),
        "cols@0.2": (0.05, 0.74),
        "cols-options@0.1": (0.02, 0.74),
        "cols-options-gap": (0.03, 0.74),
        "cols-auto": (0.04, 0.74),
        "combls@0.2m4": (0.06, 0.74),
        "cols-random@0.2": (0.001, 0.74),
        "ls-options@0.1": (0.01, 0.74),
    }
    run = made(figures)
    assert chosen(run) == "cols-options@0.1"
    said = text(run)
    assert said.startswith("No verdict on trust: the run does not have both methods' predictions")
    assert "CoLS-options@0.1 lowers ECE from 12.0 % to 2.0 %" in said
    assert "chosen out of 5" in said
    assert "LS-options@0.1 1.0 % at accuracy 74.0 % (below CoLS-options@0.1)" in said


def test_controls_and_temperatures_are_no_candidates() -> None:
    figures = dict.fromkeys(("cols+ts", "cols-random", "cols-options-oracle@0.1"), (0.01, 0.74))
    figures |= dict.fromkeys(("coecp-soft", "combls-inverted", "ls", "cols-v2"), (0.01, 0.74))
    assert chosen(made(EVEN | figures)) == "cols"


def test_nothing_is_chosen_without_grounds() -> None:
    only_test = made(EVEN, {})
    assert chosen(only_test) is None
    assert "no row of its calibration split" in text(only_test)
    assert "lowers" not in text(only_test)
    assert "SFT has no accuracy" in text(made({"cols": (0.1, 0.7)}))


def test_penalties_without_a_gate_are_named() -> None:
    said = text(made(EVEN | {"ls": (0.02, 0.74), "ecp-options": (0.05, 0.73), "ls+ts": (0.0, 0.7)}))
    assert "LS 2.0 % at accuracy 74.0 % (below CoLS), ECP-options 5.0 % at accuracy 73.0 %." in said
    assert "without a gate" not in text(made(EVEN))


def test_few_questions_are_flagged() -> None:
    assert "Only 150 questions" in text(made(EVEN, n=150))


def test_without_comparison_the_lowest_ece_is_named() -> None:
    said = text(made({"base": (0.2, 0.5), "sft": (0.1, 0.7)}))
    assert said.startswith("SFT has the lowest ECE on t: 10.0 % at accuracy 70.0 %.")
    assert "no CogCalib variant has an ECE on both splits" in said


def written(
    run: Run, method: str, seed: int = 0, *, excess: float = 0.0, noise: float = 0.0, n: int = 400
) -> None:
    """Predictions correct with probability confidence - excess, noise blurring the confidence.

    The same questions are correct whatever the method, but for the excess.
    """
    generator = np.random.default_rng(seed)
    sure = generator.uniform(0.5, 1.0, n)
    correct = generator.random(n) < sure - 0.2
    shown = np.clip(sure - 0.2 + excess + noise * generator.normal(size=n), 0.01, 0.99)
    nll = -np.log(np.where(correct, shown, 1 - shown))
    predictions = [
        Prediction(
            f"q{i}", "t", "test", "A", "A" if correct[i] else "B", bool(correct[i]), float(nll[i]),
            {"vocab": float(shown[i]), "options": float(shown[i])}, None, "m", "r",
        )
        for i in generator.permutation(n)
    ]  # fmt: skip
    rewrite(run, run.predictions_path(method, seed, "t"), predictions)


def rewrite(run: Run, path: Path, predictions: list[Prediction]) -> None:
    """Write the file anew; what the run has kept of it is not asked again."""
    write_jsonl(path, predictions)
    vars(run).pop("_kept", None)


def wrong(row: Prediction) -> Prediction:
    return replace(row, prediction="B", correct=False)


def verdict(run: Run, method: str = "cols", against: str = "sft") -> Verdict:
    found = Judge(run, group_rows(run.rows)[0]).compare(method, against)
    assert found is not None
    return found


def test_a_verdict_rests_on_paired_differences(tmp_path: Path) -> None:
    run = made(EVEN, path=tmp_path)
    written(run, "cols")
    written(run, "sft", excess=0.2)
    found = verdict(run).differences
    by_id = [{p.id: p for p in run.predictions(method, 0, "t")} for method in ("cols", "sft")]
    arrays = [
        ([row[id].confidence["vocab"] for id in by_id[0]], [row[id].correct for id in by_id[0]])
        for row in by_id
    ]
    for name, metric in (("ece.vocab", expected_calibration_error), ("aurc", aurc)):
        expected = paired_bootstrap(metric, *arrays)
        assert found[name].difference == pytest.approx(expected.difference, abs=1e-12)
        assert found[name].low == pytest.approx(expected.low, abs=0.01)
        assert found[name].high == pytest.approx(expected.high, abs=0.01)


def test_a_method_that_is_better_everywhere_is_trustworthy(tmp_path: Path) -> None:
    run = made(EVEN, path=tmp_path)
    written(run, "cols")
    written(run, "sft", excess=0.2)
    assert verdict(run).trustworthy
    said = text(run)
    assert "CoLS is trustworthy against SFT: ECE falls under every confidence definition" in said
    assert "ECE vocab \N{MINUS SIGN}" in said
    assert "ECE options \N{MINUS SIGN}" in said
    assert "AURC +0.000 [" in said
    assert "Brier score, NLL and AURC are not worse." in said


def test_shrinking_every_confidence_alike_is_not_trustworthy(tmp_path: Path) -> None:
    """Over the vocabulary the ECE falls; what tells correct from wrong answers is lost."""
    run = made(EVEN, path=tmp_path)
    written(run, "sft", excess=0.2)
    written(run, "cols", noise=0.5)
    found = verdict(run)
    assert "aurc" in found.failing
    assert not found.trustworthy
    said = text(run)
    assert "CoLS is not trustworthy against SFT:" in said
    assert "AURC +0." in said


def test_an_ece_that_does_not_fall_is_named(tmp_path: Path) -> None:
    run = made(EVEN, path=tmp_path)
    written(run, "sft", excess=0.1)
    written(run, "cols", excess=0.2)
    assert {"ece.options", "ece.vocab"} <= set(verdict(run).failing)
    assert "not trustworthy against SFT: ECE options +" in text(run)


def test_a_penalty_that_left_no_trace_is_told(tmp_path: Path) -> None:
    run = made(EVEN | {"ls": (0.123, 0.740), "sft+ts": (0.123, 0.740)}, path=tmp_path)
    for method in ("cols", "sft", "ls", "sft+ts"):
        written(run, method)
    assert verdict(run).equal
    alike = "answers exactly as SFT does (all predictions are equal): its penalty did not act."
    assert lead(run).startswith(f"CoLS {alike}")
    said = text(run)
    assert "SFT + TS is as good: CoLS answers exactly as SFT + TS does" in said
    assert "+0.0" not in said
    # Of the others those are named whose figures coincide, and only penalties.
    assert said.count(alike) == 2
    assert f" LS {alike}" in said
    written(run, "ls", noise=0.001)
    assert text(run).count(alike) == 1
    written(run, "cols", noise=0.001)
    assert alike not in text(run)
    assert not verdict(run).equal


def test_a_lower_accuracy_is_not_trustworthy(tmp_path: Path) -> None:
    run = made(EVEN, path=tmp_path)
    written(run, "cols")
    written(run, "sft", excess=0.2)
    rows = run.predictions("cols", 0, "t")
    rewrite(run, run.predictions_path("cols", 0, "t"), [*map(wrong, rows[:80]), *rows[80:]])
    assert "accuracy" in verdict(run).failing


def test_seeds_are_resampled_with_the_questions(tmp_path: Path) -> None:
    run = made(EVEN, seeds=2, path=tmp_path)
    for seed, excess in enumerate((0.3, 0.0)):
        written(run, "cols", seed)
        written(run, "sft", seed, excess=excess)
    error = verdict(run).differences["ece.vocab"]
    assert error.low < -0.2
    assert error.high == 0.0
    assert "ece.vocab" in verdict(run).failing


def test_whether_a_temperature_is_as_good_is_said(tmp_path: Path) -> None:
    run = made(EVEN | {"sft+ts": (0.03, 0.74)}, path=tmp_path)
    written(run, "cols")
    written(run, "sft", excess=0.2)
    written(run, "sft+ts", excess=0.001)
    as_good = "SFT + TS is as good: CoLS is not better in Brier score and NLL and AURC."
    assert as_good in text(run)
    assert "Scaling afterwards is as good (SFT + TS)." in lead(run)
    written(run, "sft+ts", excess=0.2)
    assert "Scaling afterwards is not as good (SFT + TS in Brier score and NLL)." in lead(run)
    assert "Against SFT + TS, CoLS is better in Brier score \N{MINUS SIGN}0." in text(run)


def test_whether_fine_tuning_paid_is_said(tmp_path: Path) -> None:
    run = made(EVEN | {"base": (0.03, 0.74)}, path=tmp_path)
    for method in ("cols", "sft", "base"):
        written(run, method)
    assert "Fine-tuning itself did not pay: SFT answers exactly as the base model does" in text(run)
    assert "CoLS answers exactly as the base model does (all predictions are equal)." in text(run)
    assert "Fine-tuning changed nothing here." in lead(run)
    written(run, "base", excess=0.2)
    paid = "Fine-tuning itself paid: SFT against the base model, accuracy equal, Brier score"
    assert paid in text(run)
    assert "Fine-tuning did not harm calibration here, against the base model ECE" in lead(run)
    written(run, "base")
    written(run, "sft", excess=0.2)
    assert "Fine-tuning itself did not pay: SFT against the base model, accuracy" in text(run)
    assert lead(run).startswith("CoLS is trustworthy against SFT")
    assert "Fine-tuning harmed calibration here, against the base model ECE" in lead(run)
    rows = run.predictions("base", 0, "t")
    rewrite(
        run, run.predictions_path("base", 0, "t"), [replace(wrong(row), nll=5.0) for row in rows]
    )
    said = text(run)
    assert "Fine-tuning itself paid: SFT against the base model, accuracy +" in said
    assert "CoLS against the base model: accuracy +" in said


def test_without_the_same_questions_no_significance_is_claimed(tmp_path: Path) -> None:
    run = made(EVEN, path=tmp_path)
    assert "figures only" in text(run)
    written(run, "cols")
    written(run, "sft", n=300)
    said = text(run)
    assert "figures only" in said
    assert "trustworthy" not in said


def test_the_lead_reads_without_what_is_set_back() -> None:
    said = figures_aside("A is better (B <1.0 [0.5 to 1.5]>) by +2.0 [1.0 to 3.0] points; so is C.")
    inside = re.findall(r'<span class="figures">(.*?)</span>', said)
    assert inside == ["(B &lt;1.0 [0.5 to 1.5]&gt;)", "[1.0 to 3.0]"]
    assert re.sub(r"<span.*?</span>", "", said) == "A is better  by +2.0  points; so is C."
