"""Reading lm-evaluation-harness' samples.

The files in lm_eval_samples were written by lm-eval 0.4.13 with its `dummy` model, on three
documents: letters with an index as target; texts with mutual information and the harness' own
softmax; options in the contexts, as in WinoGrande; generation under two filters; and a task that
is no choice at all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cogcalib.jsonl import read_jsonl, write_jsonl
from cogcalib.metrics import evaluate
from cogcalib.records import Prediction
from cogcalib.scoring.lm_eval import read_samples

DATE = "2026-11-23T14-04-04.485759"
SAMPLES = Path(__file__).parent / "lm_eval_samples"

Change = Callable[[dict[str, Any]], object]


def samples(task: str) -> Path:
    return SAMPLES / f"samples_{task}_{DATE}.jsonl"


def rows(task: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in samples(task).read_text("utf-8").split("\n") if line]


def changed(folder: Path, task: str, change: Change, index: int = 1) -> Path:
    """A copy of a task's samples with one row changed."""
    table = rows(task)
    change(table[index])
    return write_jsonl(folder / samples(task).name, table)


def test_letters_with_an_index_as_target():
    predictions = read_samples(samples("letters"))
    assert [row.id for row in predictions] == ["0", "1", "2"]
    assert [row.answer for row in predictions] == ["B", "A", "C"]
    assert [row.prediction for row in predictions] == ["A", "B", "A"]
    assert not any(row.correct for row in predictions)
    first = predictions[0]
    logs = np.array([-0.12389516442443171, -0.21057650988664645, -0.8007465903541809])
    assert first.option_logprobs == tuple(logs)
    share = np.exp(logs) / np.exp(logs).sum()
    assert first.confidence == {"options": pytest.approx(share.max(), abs=1e-15)}
    assert first.nll == pytest.approx(-math.log(share[1]), abs=1e-14)
    assert (first.task, first.split, first.run) == ("letters", "test", DATE)
    assert first.model == "lm_eval_samples"  # the harness names the folder after the model


def test_confidence_is_the_softmax_of_the_harness():
    """Its Brier score logs the probabilities themselves; half of the requests are not options."""
    for prediction, row in zip(read_samples(samples("texts_mi")), rows("texts_mi"), strict=True):
        gold, shares = row["brier_score"]
        expected = np.fromstring(shares.strip("[]"), sep=" ")
        assert len(prediction.option_logprobs or ()) == len(expected) == 3
        assert prediction.confidence["options"] == pytest.approx(expected.max(), abs=1e-8)
        assert prediction.nll == pytest.approx(-math.log(expected[gold]), abs=1e-7)
        assert prediction.answer == "ABC"[gold]
        assert prediction.correct == row["acc"]


def test_options_in_the_contexts_take_the_right_one_from_acc():
    predictions = read_samples(samples("inputs"))
    assert [row.answer for row in predictions] == ["A", "B", "A"]  # as in the documents
    assert [row.correct for row in predictions] == [False, True, True]


def test_generation_has_correctness_and_no_confidence():
    path = samples("generated")
    with pytest.raises(ValueError, match="filter must be chosen among strict, flexible"):
        read_samples(path)
    with pytest.raises(ValueError, match="filter must be among strict, flexible, got 'none'"):
        read_samples(path, filter="none")
    predictions = read_samples(path, filter="flexible")
    assert [row.answer for row in predictions] == ["four", "blue", "Paris"]
    assert {row.prediction for row in predictions} == {"lol"}
    assert all(math.isnan(row.nll) and row.confidence == {} for row in predictions)


def test_loglikelihood_of_a_single_text_is_refused():
    with pytest.raises(ValueError, match=r"lambada_like.*row 1: filtered_resps: one log-likelihoo"):
        read_samples(samples("lambada_like"))


def test_rows_are_predictions_like_any_other(tmp_path):
    predictions = read_samples(samples("inputs"), task="winogrande", split="validation", model="m")
    assert read_jsonl(write_jsonl(tmp_path / "p.jsonl", predictions), Prediction) == predictions
    assert {(row.task, row.split, row.model) for row in predictions} == {
        ("winogrande", "validation", "m")
    }
    result = evaluate(
        [row.confidence["options"] for row in predictions],
        [row.correct for row in predictions],
        resamples=10,
    )
    assert result.metrics["accuracy"].value == pytest.approx(2 / 3)
    assert result.small_n


def test_another_file_name_needs_the_task(tmp_path):
    path = write_jsonl(tmp_path / "mine.jsonl", rows("letters"))
    with pytest.raises(
        ValueError, match=r"mine.jsonl: samples of lm-evaluation-harness are called samples_"
    ):
        read_samples(path)
    assert read_samples(path, task="letters")[0].run == "mine"


@pytest.mark.parametrize(
    ("target", "answer"), [("1", "B"), ("[1]", "B"), ("B", "B"), (" B", "B"), ("0", "A")]
)
def test_right_option_by_index_or_text(tmp_path, target, answer):
    def change(row: dict[str, Any]) -> None:
        row.update(target=target, acc=float(answer == "B"))

    assert read_samples(changed(tmp_path, "letters", change))[1].answer == answer


def test_without_acc_the_target_decides(tmp_path):
    path = changed(tmp_path, "letters", lambda row: row.pop("acc"))
    assert read_samples(path) == read_samples(samples("letters"), model=tmp_path.name)


def test_equal_likelihoods_choose_the_first_option(tmp_path):
    def change(row: dict[str, Any]) -> None:
        row.update(filtered_resps=[["-2.5", "False"]] * 3, acc=1.0)

    row = read_samples(changed(tmp_path, "letters", change))[1]
    assert (row.prediction, row.confidence["options"]) == ("A", pytest.approx(1 / 3))


def test_far_apart_and_impossible_options(tmp_path):
    def change(row: dict[str, Any]) -> None:
        row.update(filtered_resps=[["-inf", "False"], ["-9000.0", "True"], ["-9800.0", "False"]])

    row = read_samples(changed(tmp_path, "letters", change))[1]
    assert row.confidence == {"options": 1.0}
    assert row.nll == math.inf


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("letters", lambda row: row.pop("target"), "needs doc_id, target, arguments"),
        ("letters", lambda row: row.update(target="7"), "target: must be an index below 3 or one"),
        ("letters", lambda row: row.update(target="[0, 2]"), "target: must be one correct option"),
        ("letters", lambda row: row.update(acc=1.0), "acc: is 1.0, but option B is the most likel"),
        ("letters", lambda row: row.update(acc=0.5), "acc: must be 0 or 1, got 0.5"),
        ("letters", lambda row: row.update(doc_id=0), "doc_id: 0 came before"),
        ("letters", lambda row: row.update(filtered_resps=[]), "filtered_resps: must be a list"),
        (
            "letters",
            lambda row: row["filtered_resps"].__setitem__(2, ["high", "False"]),
            r"filtered_resps\[2\]: must be \[log-likelihood, is greedy\], got \['high'",
        ),
        (
            "letters",
            lambda row: row["filtered_resps"].__setitem__(0, ["nan", "False"]),
            r"filtered_resps\[0\]: must be at most 0, got nan",
        ),
        (
            "letters",
            lambda row: row.update(filtered_resps=[["-inf", "False"]] * 3),
            "filtered_resps: every option has a log-likelihood of -inf",
        ),
        ("letters", lambda row: row["arguments"].pop("gen_args_2"), "arguments: needs gen_args_2"),
        ("inputs", lambda row: row.pop("acc"), "target: does not tell which context is correct"),
    ],
)
def test_malformed_rows_are_named(tmp_path, task, change, message):
    with pytest.raises(ValueError, match=rf"samples_{task}_.*jsonl, row 2: {message}"):
        read_samples(changed(tmp_path, task, change))


def test_generation_without_exact_match_is_refused(tmp_path):
    path = changed(tmp_path, "generated", lambda row: row.pop("exact_match"))
    with pytest.raises(ValueError, match="row 2: exact_match: must be 0 or 1, got None"):
        read_samples(path, filter="strict")


@pytest.mark.parametrize(("text", "message"), [("", "has no rows"), ("{", "row 1: no valid JSON")])
def test_files_without_samples(tmp_path, text, message):
    path = tmp_path / samples("letters").name
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_samples(path)
