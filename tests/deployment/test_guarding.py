"""Held-out questions, recalibration and the guard: end to end on a tiny model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapters_at_hand import OPTIONS, calibration_of, save_model
from huggingface_hub import constants

import cogcalib
from cogcalib.deployment import guarding, opened, recalibration
from cogcalib.deployment.access import ModelAccess
from cogcalib.deployment.calibration_file import (
    FILE,
    AnswerFormat,
    SplitMetrics,
    read_calibration,
    write_calibration,
)
from cogcalib.deployment.card import WITHDRAWN, is_generated, write_card
from cogcalib.deployment.guarding import explain, guard, risk_coverage_curve
from cogcalib.deployment.guessing import said_of_guessing
from cogcalib.deployment.held_out import FEWEST, held_out, read_rows
from cogcalib.deployment.identity import identify
from cogcalib.deployment.inputs import to_questions
from cogcalib.deployment.opened import find_model, identify_model
from cogcalib.deployment.recalibration import SPLIT, recalibrate
from cogcalib.deployment.seen_questions import (
    CALIBRATED_ON,
    question_hashes,
    read_seen,
    set_hash,
    write_seen,
)
from cogcalib.modeling import load_tokenizer
from cogcalib.posthoc import PlattScaling, TemperatureScaling
from cogcalib.posthoc.risk_control import SelectiveGuarantee
from cogcalib.records import InputError

ACCESS = ModelAccess()
ANSWERS = AnswerFormat("options", "options", options=OPTIONS)


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def questions(begin: int, end: int) -> list[dict[str, Any]]:
    """Different prompts; which option is called correct has nothing to do with the model."""
    return [
        {
            "prompt": f"Question: which is number {number}?\nAnswer:",
            "completion": OPTIONS[number * 7 % 4],
            "options": list(OPTIONS),
        }
        for number in range(begin, end)
    ]


def obliging(model: Path, begin: int, end: int, wrong: float = 0.15) -> list[dict[str, Any]]:
    """Questions whose answer is what the model says, but for a share of those it is unsure of."""
    predictor = cogcalib.load(model, calibration=calibration_of(model, None))
    rows = questions(begin, end)
    answers = predictor.predict(rows)
    unsure = np.argsort([answer.confidence for answer in answers])[: int(wrong * len(rows))]
    for place, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        row["completion"] = answer.answer
        if place in unsure:
            row["completion"] = answer.alternatives[-1].answer
    return rows


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def model(base: Path, tmp_path: Path) -> Path:
    """A calibrated model, without a map."""
    folder = tmp_path / "model"
    folder.mkdir()
    for file in base.iterdir():
        (folder / file.name).symlink_to(file)
    write_calibration(folder, calibration_of(folder, None))
    return folder


# ---- Held-out questions ----


def read(path: Path, model: Path, seen: dict[str, frozenset[str]] | None = None) -> Any:
    return held_out(path.name, read_rows(path), load_tokenizer(model), ANSWERS, seen or {})


def test_gold_answers_are_found_by_label_letter_and_text(base: Path, tmp_path: Path) -> None:
    texts = ["red", "green", "blue"]
    rows = [
        {"question": f"Colour {n}?", "options": texts, "answer": each}
        for n, each in enumerate(["green", "B", "blue", "C"] * 15)
    ]
    rows += [
        {"question": f"Shade {n}?", "options": {"X": "dim", "Y": "light"}, "answer": each}
        for n, each in enumerate(["Y", "light"] * 3)
    ]
    path = written(tmp_path / "q.jsonl", rows)
    answers = AnswerFormat("options", "options", preset="cogcalib")
    found = held_out(path.name, read_rows(path), load_tokenizer(base), answers, {})
    assert found.gold()[:4].tolist() == [1, 1, 2, 2]
    assert found.gold()[60:].tolist() == [1] * 6


def test_messages_end_with_the_answer(base: Path, tmp_path: Path) -> None:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Number {n}?"},
                {"role": "user", "content": "Answer A or B."},
            ],
            "options": ["A", "B"],
        }
        for n in range(FEWEST)
    ]
    path = written(tmp_path / "m.jsonl", rows)
    with pytest.raises(InputError, match="row 1: the last message must be the assistant's"):
        read(path, base)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"completion": None}, "row 3: has no completion"),
        ({"completion": " E"}, r"row 3: the answer must be one of the options ' A', .* got ' E'"),
        ({"completion": ["x"]}, "row 3: the answer must be a text"),
        ({"completion": float("nan")}, "row 3: has no completion"),
        ({"options": [" A", "B", " C", " D"]}, "row 3: option 'B' must be written ' B'"),
        ({"prompt": "Question: which is number 1?\nAnswer:"}, "row 3: asks the same as .* row 2"),
    ],
)
def test_a_row_that_cannot_be_judged_is_named(
    base: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    rows = questions(0, FEWEST)
    rows[2] |= change
    with pytest.raises(InputError, match=said):
        read(written(tmp_path / "q.jsonl", rows), base)


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"must hold at least {FEWEST} rows, got 3"):
        read_rows(written(tmp_path / "q.jsonl", questions(0, 3)))
    with pytest.raises(InputError, match="nowhere"):
        read_rows(tmp_path / "nowhere.jsonl")


def test_questions_seen_before_are_refused(base: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "q.jsonl", questions(0, FEWEST))
    hashes = read(path, base).hashes
    seen = {"was trained on": frozenset(hashes[1:4])}
    with pytest.raises(InputError, match="row 2: the model was trained on this question; 3 of 50"):
        read(path, base, seen)


# ---- Recalibration ----


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic", "vector"])
def test_a_model_without_calibration_gets_one(base: Path, tmp_path: Path, method: str) -> None:
    data = written(tmp_path / "c.jsonl", obliging(base, 0, 120))
    output = tmp_path / "calibration"
    found = recalibrate(base, data, method, ACCESS, output=output)
    kept = read_calibration(output)
    assert kept.map == found.fitted
    assert (kept.map.n, kept.map.source, kept.answers.options) == (120, "c.jsonl", OPTIONS)
    assert kept.metrics[-1].split == SPLIT
    assert set(kept.metrics[-1].raw) >= {"accuracy", "ece", "brier", "aurc", "nll"}
    assert kept.metrics[-1].calibrated
    assert len(kept.confidence_histogram) == 20
    assert cogcalib.load(base, calibration=output).predict([questions(0, 1)[0]["prompt"]])


def test_the_map_is_that_of_posthoc(model: Path, tmp_path: Path) -> None:
    rows = obliging(model, 0, 100)
    data = written(tmp_path / "c.jsonl", rows)
    predictor = cogcalib.load(model)
    answers = predictor.predict(rows)
    gold = [OPTIONS.index(row["completion"]) for row in rows]
    shares = [{a.answer: a.probability for a in answer.alternatives} for answer in answers]
    logits = np.log([[share[option] for option in OPTIONS] for share in shares])
    fitted = recalibrate(model, data, "temperature", ACCESS).fitted
    expected = TemperatureScaling().fit(logits, gold).temperature_
    assert fitted.parameters["temperature"] == pytest.approx(expected, rel=1e-3)
    platt = recalibrate(model, data, "platt", ACCESS).fitted
    correct = [
        answer.answer == row["completion"] for answer, row in zip(answers, rows, strict=True)
    ]
    line = PlattScaling().fit([answer.confidence for answer in answers], correct)
    assert platt.parameters["slope"] == pytest.approx(line.slope_, rel=1e-3)


def test_recalibrating_voids_the_rules_and_keeps_the_training_metrics(
    model: Path, tmp_path: Path
) -> None:
    held = written(tmp_path / "h.jsonl", obliging(model, 0, 200))
    guard(model, held, [0.3], ACCESS)
    assert read_calibration(model).rules
    data = written(tmp_path / "c.jsonl", obliging(model, 200, 320))
    assert recalibrate(model, data, "platt", ACCESS).voided == 1
    assert not read_calibration(model).rules
    assert len(read_seen(model, CALIBRATED_ON)) == 120
    with pytest.raises(InputError, match="was calibrated on this question; 120 of 120"):
        guard(model, data, [0.3], ACCESS)


@pytest.mark.parametrize("all_correct", [True, False])
def test_one_class_only_is_refused(model: Path, tmp_path: Path, all_correct: bool) -> None:
    rows = obliging(model, 0, 60, wrong=0.0 if all_correct else 1.0)
    before = (model / FILE).read_text()
    with pytest.raises(InputError, match=f"{'every' if all_correct else 'no'} answer of the model"):
        recalibrate(model, written(tmp_path / "c.jsonl", rows), "platt", ACCESS)
    assert (model / FILE).read_text() == before


def test_training_questions_are_refused(model: Path, tmp_path: Path) -> None:
    data = written(tmp_path / "c.jsonl", questions(0, 60))
    write_seen(model, read(data, model).hashes[:2])
    with pytest.raises(InputError, match="was trained on this question; 2 of 60"):
        recalibrate(model, data, "temperature", ACCESS)


def test_a_row_that_does_not_fit_is_named(model: Path, tmp_path: Path) -> None:
    rows = questions(0, 60)
    rows[40]["prompt"] = "again " * 400 + rows[40]["prompt"]
    data = written(tmp_path / "c.jsonl", rows)
    for ask in (
        lambda: recalibrate(model, data, "platt", ACCESS),
        lambda: guard(model, data, [0.3], ACCESS),
    ):
        with pytest.raises(InputError, match=r"c\.jsonl, row 41: prompt and answer take"):
            ask()


def test_vector_scaling_needs_answers_in_several_places(model: Path, tmp_path: Path) -> None:
    rows = questions(0, 60)
    for row in rows:
        row["completion"] = OPTIONS[0]
    before = (model / FILE).read_text()
    data = written(tmp_path / "c.jsonl", rows)
    with pytest.raises(InputError, match=r"c\.jsonl: the correct option stands in the same place"):
        recalibrate(model, data, "vector", ACCESS)
    assert (model / FILE).read_text() == before
    for row in rows[:30]:
        row["completion"] = OPTIONS[3]
    assert recalibrate(model, written(data, rows), "vector", ACCESS).fitted.method == "vector"


@pytest.mark.parametrize("damage", ["cut", "foreign", "unproven", "schema"])
def test_the_way_out_of_a_calibration_is_one(model: Path, tmp_path: Path, damage: str) -> None:
    data = written(tmp_path / "c.jsonl", questions(0, 60))
    whole = json.loads((model / FILE).read_text())
    if damage == "foreign":
        whole["model"]["tokenizer"] = "0" * 64
    elif damage == "unproven":
        whole["trained_on"] = {"n": 3, "sha256": "0" * 64}
    elif damage == "schema":
        whole["schema"] = 0
    text = json.dumps(whole)
    (model / FILE).write_text(text[:99] if damage == "cut" else text)
    with pytest.raises(InputError, match=f"remove its {FILE} and recalibrate the model"):
        recalibrate(model, data, "platt", ACCESS)
    (model / FILE).unlink()
    assert recalibrate(model, data, "platt", ACCESS).folder == model
    assert read_calibration(model).map is not None


def test_other_methods_are_refused(model: Path, tmp_path: Path) -> None:
    data = written(tmp_path / "c.jsonl", questions(0, 60))
    with pytest.raises(InputError, match="method must be one of temperature"):
        recalibrate(model, data, "beta", ACCESS)
    answers = AnswerFormat("open-ended", "mean")
    write_calibration(model, calibration_of(model, None, answers=answers))
    with pytest.raises(InputError, match="platt or isotonic for generated answers"):
        recalibrate(model, data, "temperature", ACCESS)


@pytest.mark.parametrize(
    ("accuracy", "nll", "options", "said"),
    [
        (0.262, 1.2, 4, "answers 26.2 % correctly, which is not significantly more than guessing "
         "among the options would (25.0 %)"),
        (0.1, 1.2, 4, "answers 10.0 % correctly"),
        (0.4, 1.39, 4, "The NLL behind the map, 1.390 nats, is no lower than that of guessing "
         "among the options, 1.386"),
        (0.4, 1.38, 4, ""),
        (0.4, 1.38, 0, ""),
        (0.4, 0.6, 2, "answers 40.0 % correctly"),
    ],
)  # fmt: skip
def test_a_model_that_guesses_is_told(accuracy: float, nll: float, options: int, said: str) -> None:
    def row(value: float) -> dict[str, float]:
        return {"value": value, "low": 0.0, "high": 9.0}

    metrics = SplitMetrics(
        SPLIT, 500, "ab", {"accuracy": row(accuracy), "nll": row(3.0)}, {"nll": row(nll)}
    )
    found = said_of_guessing(metrics, [options] * 500)
    assert said in found
    assert bool(found) is bool(said)


# ---- The guard ----


def test_rules_are_written_and_obeyed(model: Path, tmp_path: Path) -> None:
    data = written(tmp_path / "h.jsonl", obliging(model, 0, 200))
    found = guard(model, data, [0.05, 0.1], ACCESS)
    assert [rule.target_error for rule in read_calibration(model).rules] == [0.05, 0.1]
    rule = found.rules[0]
    assert rule.threshold is not None
    assert (rule.n, rule.source, rule.reason) == (200, "h.jsonl", "")
    answers = cogcalib.load(model).predict(questions(0, 200))
    assert [a.abstain for a in answers] == [a.confidence < rule.threshold for a in answers]
    kept = [a for a in answers if not a.abstain]
    assert len(kept) / 200 == rule.coverage
    looser = cogcalib.load(model).predict(questions(0, 200), target_error=0.1)
    assert sum(a.abstain for a in looser) <= sum(a.abstain for a in answers)
    assert len(risk_coverage_curve(found).axes[0].lines) >= 4


def test_nothing_is_promised_of_too_few_or_too_wrong_answers(model: Path, tmp_path: Path) -> None:
    data = written(tmp_path / "h.jsonl", obliging(model, 0, FEWEST))
    (rule,) = guard(model, data, [0.01], ACCESS).rules
    assert rule.threshold is None
    assert "even without an error 230 answers are needed" in rule.reason
    assert all(answer.abstain for answer in cogcalib.load(model).predict(questions(0, 5)))
    poor = written(tmp_path / "p.jsonl", questions(0, 200))
    (rule,) = guard(model, poor, [0.05], ACCESS).rules
    assert rule.threshold is None
    assert rule.reason


@pytest.mark.parametrize(
    ("n", "needed", "said"),
    [
        (50, 230, "50 questions are too few: even without an error 230 answers are needed; if more "
         "are like these, about 230 are needed"),
        (50, None, "50 questions are too few: even without an error 230 answers are needed; with "
         "as many errors as here a model that is more accurate or ranks its answers better is "
         "needed, too"),
        (1000, 3400, "1,000 questions are too few; if more are like these, about 3,400 are needed"),
        (1000, None, "too many of the most confident answers are wrong for this target; a model "
         "that is more accurate or ranks its answers better, or a higher target, would help, more "
         "questions hardly"),
    ],
)  # fmt: skip
def test_why_nothing_is_promised(n: int, needed: int | None, said: str) -> None:
    found = SelectiveGuarantee(0.01, 0.1, None, n, 0, 0, (0.0, 0.1), 0.3, needed)
    assert explain(found) == said
    assert explain(replace(found, threshold=0.9)) == ""


def test_a_guard_needs_no_wrong_answer(model: Path, tmp_path: Path) -> None:
    data = written(tmp_path / "h.jsonl", obliging(model, 0, 120, wrong=0.0))
    found = guard(model, data, [0.1], ACCESS)
    assert (found.rules[0].coverage, found.rules[0].error) == (1.0, 0.0)
    assert risk_coverage_curve(found).axes


def test_other_questions_may_all_be_answered_wrongly(model: Path, tmp_path: Path) -> None:
    data = written(tmp_path / "h.jsonl", obliging(model, 0, 200, wrong=0.0))
    other = written(tmp_path / "o.jsonl", obliging(model, 500, 600, wrong=1.0))
    (seen,) = guard(model, data, [0.1], ACCESS, out_of_domain=other).elsewhere
    assert seen.coverage == 0 or seen.error == 1
    assert read_calibration(model).rules[0].threshold is not None


def test_other_questions_are_only_tried(model: Path, tmp_path: Path) -> None:
    data = written(tmp_path / "h.jsonl", obliging(model, 0, 200))
    other = written(tmp_path / "o.jsonl", questions(500, 600))
    (seen,) = guard(model, data, [0.1], ACCESS, out_of_domain=other).elsewhere
    assert 0 <= seen.coverage <= 1
    assert len(read_calibration(model).rules) == 1


@pytest.mark.parametrize(
    ("targets", "delta", "said"),
    [
        ([0.0], 0.1, "target_error must lie between 0 and 1"),
        ([1.0], 0.1, "target_error must lie between 0 and 1"),
        ([0.1, 0.1], 0.1, "different targets"),
        ([], 0.1, "different targets"),
        ([0.1], 1.0, "delta must lie between 0 and 1"),
    ],
)
def test_numbers_out_of_range_are_refused(
    model: Path, tmp_path: Path, targets: list[float], delta: float, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        guard(model, tmp_path / "none.jsonl", targets, ACCESS, delta=delta)


def test_a_model_without_calibration_cannot_be_guarded(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"has no {FILE}"):
        guard(base, tmp_path / "none.jsonl", [0.1], ACCESS)


# ---- What the model has seen must be known ----


def test_without_its_hashes_nothing_is_promised(model: Path, tmp_path: Path) -> None:
    data = written(tmp_path / "c.jsonl", obliging(model, 0, 120))
    recalibrate(model, data, "platt", ACCESS)
    held = written(tmp_path / "h.jsonl", obliging(model, 200, 400))
    (model / CALIBRATED_ON).unlink()
    with pytest.raises(InputError, match=f"{CALIBRATED_ON} is missing or was changed"):
        guard(model, held, [0.3], ACCESS)


# ---- Models of the hub, and calibrations elsewhere ----

HUB = "me/tiny"


@pytest.fixture
def snapshot(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What was fetched of a calibrated model on the hub."""
    folder = tmp_path / "hub" / "models--me--tiny" / "snapshots" / ("0" * 40)
    folder.mkdir(parents=True)
    for file in base.iterdir():
        (folder / file.name).symlink_to(file)
    refs = folder.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def fetched(source: str, name: str) -> Path | None:
        assert source == HUB
        return folder / name if (folder / name).exists() else None

    monkeypatch.setattr(opened, "_hub_file", fetched)
    seen = {"trained_on": questions(900, 910), "calibrated_on": questions(910, 920)}
    hashes = {name: hashes_of(rows, base) for name, rows in seen.items()}
    noted = {name: {"n": 10, "sha256": set_hash(each)} for name, each in hashes.items()}
    write_seen(folder, hashes["trained_on"])
    write_seen(folder, hashes["calibrated_on"], CALIBRATED_ON)
    made = calibration_of(base, None, **noted)
    identity = identify(HUB, load_tokenizer(base))
    assert identity.commit == "0" * 40
    write_calibration(folder, replace(made, model=identity, method="trained"))
    return folder


def hashes_of(rows: list[dict[str, Any]], model: Path) -> list[str]:
    tokenizer = load_tokenizer(model)
    found = to_questions(rows, tokenizer, ANSWERS)
    return question_hashes([question.prompt_ids for question in found], tokenizer)


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_what_was_fetched_from_the_hub_stays_as_it_is(snapshot: Path, tmp_path: Path) -> None:
    before = content(snapshot)
    data = written(tmp_path / "h.jsonl", questions(0, 60))
    for model in (HUB, snapshot):
        for work in (
            lambda model: guard(model, data, [0.3], ACCESS),
            lambda model: guard(model, data, [0.3], ACCESS, calibration=snapshot),
            lambda model: recalibrate(model, data, "platt", ACCESS),
        ):
            with pytest.raises(InputError, match="name a folder for its calibration with output"):
                work(model)
    assert content(snapshot) == before


def test_a_model_of_the_hub_is_recalibrated_and_guarded_elsewhere(
    snapshot: Path, tmp_path: Path
) -> None:
    """Its own calibration is where both begin, and what it has seen goes along."""
    before, own = content(snapshot), tmp_path / "own"
    data = written(tmp_path / "c.jsonl", obliging(snapshot, 0, 120))
    recalibrate(HUB, data, "platt", ACCESS, output=own)
    made = read_calibration(own)
    assert (made.method, made.trained_on["n"], made.calibrated_on["n"]) == ("trained", 10, 130)
    assert len(read_seen(own)) == 10
    held = written(tmp_path / "h.jsonl", obliging(snapshot, 200, 400))
    guard(HUB, held, [0.3], ACCESS, calibration=own)
    assert read_calibration(own).rules
    ruled = tmp_path / "ruled"
    guard(HUB, held, [0.3], ACCESS, output=ruled)
    assert read_calibration(ruled).rules
    assert read_calibration(ruled).map is None
    assert content(snapshot) == before
    seen = {
        own: {"was trained on": (900, 910), "was calibrated on": (910, 920)},
        ruled: {"was trained on": (900, 910), "was calibrated on": (910, 920)},
    }
    for folder, rows in seen.items():
        for what, (begin, end) in rows.items():
            again = written(tmp_path / "a.jsonl", questions(begin, end) + questions(500, 550))
            with pytest.raises(InputError, match=f"{what} this question; 10 of 60"):
                guard(HUB, again, [0.3], ACCESS, calibration=folder)


# ---- In which number format ----


def test_another_number_format_is_said(model: Path, tmp_path: Path) -> None:
    data = written(tmp_path / "c.jsonl", obliging(model, 0, 120))
    recalibrate(model, data, "platt", ModelAccess(dtype="float64"))
    assert read_calibration(model).precision == "float64"
    assert cogcalib.load(model, dtype="float64")
    said = "its map was fitted in float64, and the model is asked in float32"
    with pytest.warns(UserWarning, match=said):
        cogcalib.load(model, dtype="float32")
    assert cogcalib.load(model).backend.model.dtype == torch.float64  # as it was calibrated
    held = written(tmp_path / "h.jsonl", obliging_in(model, "float64", 200, 400))
    with pytest.warns(UserWarning, match=said):
        guard(model, held, [0.3], ModelAccess(dtype="float32"))
    # The promise is about confidences as the guard saw them.
    assert read_calibration(model).precision == "float32"
    assert cogcalib.load(model).backend.model.dtype == torch.float32


def obliging_in(model: Path, dtype: str, begin: int, end: int) -> list[dict[str, Any]]:
    rows = questions(begin, end)
    answers = cogcalib.load(model, dtype=dtype).predict(rows)
    return [row | {"completion": answer.answer} for row, answer in zip(rows, answers, strict=True)]


def test_four_bits_are_a_format_and_a_server_has_none_that_is_known() -> None:
    def precision(access: ModelAccess) -> str:
        return replace(found, spec=access.spec("m")).precision

    found = identify_model(find_model("atlas"), ModelAccess())
    assert found.precision == "float32"
    assert precision(ModelAccess(four_bit=True, dtype="bfloat16")) == "4-bit bfloat16"
    assert precision(ModelAccess(endpoint="http://localhost:1/v1", served_name="m")) == ""


# ---- The card ----


@pytest.mark.parametrize("verb", ["recalibrate", "guard"])
def test_no_card_stands_beside_another_calibration(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    work = {
        "recalibrate": lambda data: recalibrate(model, data, "platt", ACCESS),
        "guard": lambda data: guard(model, data, [0.3], ACCESS),
    }[verb]
    write_card(model)
    card = model / "README.md"
    card.write_text(card.read_text().replace("---\n", "---\nlicense: mit\n", 1))
    data = written(tmp_path / "c.jsonl", obliging(model, 0, 120))

    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    module = {"recalibrate": recalibration, "guard": guarding}[verb]
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_card", killed)
        with pytest.raises(KeyboardInterrupt):
            work(data)
    assert not card.exists()
    write_card(model)
    assert "license: mit" in card.read_text()
    assert not (model / WITHDRAWN).exists()
    assert not is_generated("mine")
