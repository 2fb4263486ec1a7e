"""A temperature halfway: what it is fitted to, who is the base, and when it is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapters_at_hand import OPTIONS, calibration_of, save_adapter, save_model
from peft import LoraConfig, PeftModel
from tiny_models import CITIES
from transformers import AutoModelForCausalLM

import cogcalib
from cogcalib.deployment import AnswerFormat, read_calibration, recalibration, write_calibration
from cogcalib.deployment.access import ModelAccess
from cogcalib.deployment.calibration_file import FILE, Halfway
from cogcalib.deployment.guarding import guard
from cogcalib.deployment.halfway import AgainstBase
from cogcalib.deployment.held_out import FEWEST
from cogcalib.deployment.inputs import to_questions
from cogcalib.deployment.merge_plan import plan_merge
from cogcalib.deployment.merging import merge
from cogcalib.deployment.opened import find_model, open_model
from cogcalib.deployment.raw_answers import ask
from cogcalib.deployment.recalibration import Recalibrated, recalibrate
from cogcalib.deployment.seen_questions import question_hashes, write_seen
from cogcalib.metrics import expected_calibration_error
from cogcalib.modeling import load_tokenizer
from cogcalib.posthoc import TemperatureScaling
from cogcalib.records import InputError, Prediction
from cogcalib.scoring import fit_to_base

ACCESS = ModelAccess()
ANSWERS = AnswerFormat("options", "options", options=OPTIONS)
N, OTHERS = 120, 160


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def asked(begin: int, end: int) -> list[dict[str, Any]]:
    """Different prompts that end in different words, so that a tiny model has several answers."""
    k = len(CITIES)
    return [
        {
            "prompt": f"Question: {n} {CITIES[n // k % k]} {CITIES[n % k]}",
            "options": list(OPTIONS),
        }
        for n in range(begin, end)
    ]


def logits(model: Path, rows: list[dict[str, Any]]) -> np.ndarray:
    """Log-probabilities that a model in a folder gives the options, [n, 4]."""
    backend = open_model(find_model(model), ACCESS).backend
    found = ask(backend, to_questions(rows, backend.tokenizer, ANSWERS), ANSWERS)
    return np.array([row.logprobs for row in found])


def shares(scores: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    raised = np.exp((scores - scores.max(axis=1, keepdims=True)) / temperature)
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def as_predictions(scores: np.ndarray) -> list[Prediction]:
    return [
        Prediction(
            str(i), "t", "test", "A", OPTIONS[row.argmax()], False, 0.0,
            {"options": float(share.max())}, tuple(row.tolist()), "m", "r",
        )
        for i, (row, share) in enumerate(zip(scores, shares(scores), strict=True))
    ]  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("halfway") / "base")


@pytest.fixture(scope="module")
def labelled(base: Path) -> list[dict[str, Any]]:
    """Questions whose answers are drawn from what the base gives them: it is calibrated."""
    rows, drawn = asked(0, N), np.random.default_rng(0)
    for row, share in zip(rows, shares(logits(base, rows)), strict=True):
        row["completion"] = OPTIONS[drawn.choice(4, p=share)]
    return rows


@pytest.fixture
def data(tmp_path: Path, labelled: list[dict[str, Any]]) -> Path:
    return written(tmp_path / "c.jsonl", labelled)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return written(tmp_path / "target.jsonl", asked(N, N + OTHERS))


@pytest.fixture(scope="module")
def tuned(base: Path) -> Path:
    return save_adapter(base, base.parent / "tuned", std=0.2)


@pytest.fixture
def adapter(tuned: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tuned, tmp_path / "adapter")


@pytest.fixture(scope="module")
def merged(base: Path, tuned: Path) -> Path:
    """The adapter's model as a whole one."""
    folder = shutil.copytree(base, base.parent / "merged")
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tuned)
    model.merge_and_unload().save_pretrained(folder)
    return folder


@pytest.fixture
def whole(merged: Path, tmp_path: Path) -> Path:
    return shutil.copytree(merged, tmp_path / "whole")


def halfway(
    model: Path, data: Path, target: Path, access: ModelAccess = ACCESS, **how: Any
) -> Recalibrated:
    return recalibrate(
        model, data, how.pop("method", "temperature"), access, unlabelled=target, **how
    )


def way_of(found: Recalibrated) -> Halfway:
    assert found.fitted.halfway is not None
    return found.fitted.halfway


def test_it_is_the_temperature_of_fit_to_base(
    adapter: Path, base: Path, data: Path, target: Path, labelled: list[dict[str, Any]]
) -> None:
    found = halfway(adapter, data, target)
    gold = [OPTIONS.index(row["completion"]) for row in labelled]
    in_domain = TemperatureScaling().fit(logits(adapter, labelled), gold)
    rows = asked(N, N + OTHERS)
    own, theirs = (as_predictions(logits(folder, rows)) for folder in (adapter, base))
    expected = fit_to_base(own, theirs, in_domain)
    assert found.fitted.parameters["temperature"] == pytest.approx(expected.temperature_, rel=1e-5)
    way = way_of(found)
    assert way.in_domain == pytest.approx(in_domain.temperature_, rel=1e-5)
    assert way.to_base == pytest.approx(fit_to_base(own, theirs).temperature_, rel=1e-5)
    assert way.in_domain != pytest.approx(way.to_base, rel=0.05)
    alike = sum(a.prediction == b.prediction for a, b in zip(own, theirs, strict=True))
    assert FEWEST <= alike < OTHERS
    assert (way.n, way.agreeing, way.source) == (OTHERS, alike, "target.jsonl")
    assert (found.fitted.n, found.fitted.source) == (N, "c.jsonl")
    there = logits(base, labelled)
    right = there.argmax(axis=1) == np.array(gold)
    error = expected_calibration_error(shares(there).max(axis=1), right)
    assert way.base_ece == pytest.approx(error, abs=1e-6)
    kept = read_calibration(adapter)
    assert kept.map == found.fitted
    assert kept.calibrated_on["n"] == N + OTHERS
    assert (way.base.name, way.base.adapter) == ("base", None)
    assert way.base.sha256 == kept.model.sha256
    plain = recalibrate(adapter, data, "temperature", ACCESS).fitted
    assert plain.halfway is None
    assert plain.parameters["temperature"] == way.in_domain


@pytest.mark.parametrize(
    "config",
    [
        None,
        LoraConfig(
            task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], modules_to_save=["lm_head"]
        ),
    ],
    ids=["lora", "whole head"],
)
def test_an_adapters_base_is_the_model_with_its_adapter_off(
    base: Path,
    data: Path,
    target: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: Any,
) -> None:
    adapter = save_adapter(base, tmp_path / "other", config, std=0.2)
    kept: list[AgainstBase] = []

    def watched(*words: Any) -> Any:
        raw, against = asked_both(*words)
        kept.append(against)
        return raw, against

    asked_both = recalibration.ask_both
    monkeypatch.setattr(recalibration, "ask_both", watched)
    told: list[tuple[int, int]] = []
    halfway(adapter, data, target, progress=lambda done, total: told.append((done, total)))
    rows = asked(N, N + OTHERS)
    own, theirs = (
        np.array([row.option_logprobs for row in answers])
        for answers in (kept[0].own, kept[0].theirs)
    )
    np.testing.assert_allclose(theirs, logits(base, rows), atol=1e-5)
    np.testing.assert_allclose(own, logits(adapter, rows), atol=1e-5)
    assert np.abs(own - theirs).max() > 0.01
    done, totals = zip(*told, strict=True)
    assert list(done) == sorted(done)
    assert (done[-1], set(totals)) == (2 * (N + OTHERS), {2 * (N + OTHERS)})


def test_a_whole_model_is_held_against_the_base_that_is_named(
    whole: Path, base: Path, adapter: Path, data: Path, target: Path
) -> None:
    with pytest.raises(InputError, match=r"which a whole model does not .*: name it with base"):
        halfway(whole, data, target)
    found = halfway(whole, data, target, ModelAccess(base=str(base)))
    same = halfway(adapter, data, target)
    assert found.fitted.parameters == pytest.approx(same.fitted.parameters, rel=1e-4)
    one, other = way_of(found), way_of(same)
    assert one.in_domain == pytest.approx(other.in_domain, rel=1e-4)
    assert one.to_base == pytest.approx(other.to_base, rel=1e-4)
    assert one.base == other.base
    assert cogcalib.load(whole).calibration.map == found.fitted  # obeyed without the base


def test_a_base_that_cannot_be_compared_is_refused(
    whole: Path, base: Path, data: Path, target: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"base must be the model that .* which is the same"):
        halfway(whole, data, target, ModelAccess(base=str(whole)))
    other = shutil.copytree(base, tmp_path / "other")
    content = json.loads((other / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    ids = load_tokenizer(base).convert_tokens_to_ids
    one, two = (load_tokenizer(base).tokenize(text)[-1] for text in (" A", " B"))
    vocabulary[one], vocabulary[two] = ids(two), ids(one)
    (other / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"base must have the tokens of .*, got .*other with"):
        halfway(whole, data, target, ModelAccess(base=str(other)))
    assert not (whole / FILE).exists()


def test_labels_of_the_unlabelled_change_nothing(
    adapter: Path, data: Path, target: Path, tmp_path: Path
) -> None:
    found = halfway(adapter, data, target)
    rows = asked(N, N + OTHERS)
    for n, row in enumerate(rows):
        row |= {"completion": OPTIONS[n % 4], "answer": "nonsense"}
    spoilt = written(tmp_path / "target.jsonl", rows)
    again = halfway(adapter, data, spoilt)
    assert again.fitted == found.fitted
    assert (found.unread, again.unread) == ((), ("completion", "answer"))


def test_one_question_may_come_twice_but_none_that_was_trained_on(
    adapter: Path, base: Path, data: Path, tmp_path: Path
) -> None:
    rows = asked(N, N + OTHERS)
    twice = halfway(adapter, data, written(tmp_path / "twice.jsonl", [*rows, *rows]))
    once = halfway(adapter, data, written(tmp_path / "once.jsonl", rows))
    assert (way_of(twice).n, way_of(once).n) == (2 * OTHERS, OTHERS)
    assert twice.fitted.parameters == pytest.approx(once.fitted.parameters, rel=1e-6)
    tokenizer = load_tokenizer(base)
    prompts = [each.prompt_ids for each in to_questions(rows[:2], tokenizer, ANSWERS)]
    write_seen(adapter, question_hashes(prompts, tokenizer))
    with pytest.raises(InputError, match=r"once\.jsonl, row 1: .* trained on .* 2 of 160"):
        halfway(adapter, data, tmp_path / "once.jsonl")


def test_what_cannot_be_done_is_refused_before_the_model_is_read(
    adapter: Path, data: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recalibration, "ask_both", lambda *_: pytest.fail("was asked"))
    with pytest.raises(InputError, match="unlabelled needs method temperature, got 'platt'"):
        halfway(adapter, data, target, method="platt")
    server = ModelAccess(endpoint="http://127.0.0.1:1/v1", served_name="m")
    with pytest.raises(InputError, match="unlabelled cannot be used with an endpoint"):
        halfway(adapter, data, target, server)
    few = written(tmp_path / "few.jsonl", asked(N, N + 3))
    with pytest.raises(InputError, match=r"few\.jsonl must hold at least 50 rows, got 3"):
        halfway(adapter, data, few)
    open_ended = written(
        tmp_path / "open.jsonl", [{"question": f"Which is {n}?"} for n in range(FEWEST)]
    )
    with pytest.raises(InputError, match=r"open\.jsonl, row 1: needs options"):
        halfway(adapter, data, open_ended)
    spoken = written(
        tmp_path / "spoken.jsonl",
        [{"prompt": f"Number {n}?", "completion": " 7"} for n in range(FEWEST)],
    )
    with pytest.raises(InputError, match="unlabelled needs questions with options"):
        halfway(adapter, spoken, target)
    assert not (adapter / FILE).exists()


def test_a_base_that_is_not_calibrated_is_refused_with_the_figure(
    adapter: Path, base: Path, labelled: list[dict[str, Any]], target: Path, tmp_path: Path
) -> None:
    rows = [dict(row) for row in labelled]
    for number, (row, scores) in enumerate(zip(rows, logits(base, rows), strict=True)):
        row["completion"] = OPTIONS[scores.argmax() if number < 5 else scores.argmin()]
    wrong = written(tmp_path / "wrong.jsonl", rows)
    with pytest.raises(
        InputError, match=rf"on {N} calibration questions its ECE .* is \d+\.\d\d %"
    ):
        halfway(adapter, wrong, target)
    assert not (adapter / FILE).exists()


def test_models_that_hardly_agree_are_refused(
    base: Path, data: Path, target: Path, tmp_path: Path
) -> None:
    far = save_adapter(base, tmp_path / "far", std=2.0)
    with pytest.raises(InputError, match=rf"answer at least {FEWEST} questions alike.* of 160"):
        halfway(far, data, target)
    assert not (far / FILE).exists()


def test_predict_merge_and_guard_go_on_from_it(
    adapter: Path, base: Path, data: Path, target: Path, tmp_path: Path
) -> None:
    held = asked(N + OTHERS, N + OTHERS + 150)
    scores = logits(adapter, held)
    value = halfway(adapter, data, target).fitted.parameters["temperature"]
    expected = shares(scores, value).max(axis=1)
    mapped = cogcalib.load(adapter).predict(held)
    assert [each.confidence for each in mapped] == pytest.approx(expected, abs=1e-5)
    assert "unlabelled" not in (adapter / "README.md").read_text()
    said = (adapter / "README.md").read_text()
    assert "160 questions of target.jsonl" in said
    assert "fitted without labels to the confidence of base where both answer alike" in said

    for row, answer in zip(held, mapped, strict=True):
        row["completion"] = answer.answer
    for row in held[::10]:
        row["completion"] = OPTIONS[(OPTIONS.index(row["completion"]) + 1) % 4]
    guarded = guard(adapter, written(tmp_path / "h.jsonl", held), [0.4], ACCESS)
    assert guarded.rules[0].threshold is not None
    again = [{**row, "completion": OPTIONS[0]} for row in asked(N, N + OTHERS)]
    with pytest.raises(InputError, match="was calibrated on this question; 160 of 160"):
        guard(adapter, written(tmp_path / "g.jsonl", again), [0.4], ACCESS)

    merge(plan_merge(adapter, tmp_path / "out"))
    kept = read_calibration(tmp_path / "out")
    assert (kept.map, kept.folded_temperature) == (None, value)
    folded = cogcalib.load(tmp_path / "out").predict(held)
    assert [each.raw_confidence for each in folded] == pytest.approx(expected, abs=1e-4)


def test_several_tokens_among_the_unlabelled_keep_the_temperature_out_of_weights(
    adapter: Path, base: Path, data: Path, tmp_path: Path
) -> None:
    write_calibration(
        adapter,
        calibration_of(base, None, adapter=adapter, answers=AnswerFormat("options", "options")),
    )
    rows = asked(N, N + OTHERS)
    for row in rows:
        row["options"] = [" A A", " B A", " C B"]
    found = halfway(adapter, data, written(tmp_path / "long.jsonl", rows)).fitted
    assert found.one_token is False
    with pytest.raises(InputError, match="fitted over options of several tokens"):
        plan_merge(adapter, tmp_path / "out")
