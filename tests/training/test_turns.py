"""Conversations: one NLL for each turn of the assistant, or one for all of them."""

from __future__ import annotations

import random
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tiny_run import LETTERS, assert_same_weights, make_data, make_model, make_trainer, weights

from cogcalib.knowledge.threshold import estimate_threshold

N = 16
CUT = 4.0
OPTIONS = [letter.strip() for letter in LETTERS]


def conversations(n: int, seed: int = 0, **columns: Any) -> Dataset:
    """One to three questions with an answer each, the last one a letter."""
    source = random.Random(seed)
    rows = []
    for index in range(n):
        messages = []
        n_turns = 1 + index % 3
        for turn in range(n_turns):
            question = " ".join(f"w{source.randrange(40)}" for _ in range(source.randrange(2, 6)))
            words = [f"w{source.randrange(40)}" for _ in range(source.randrange(1, 4))]
            answer = source.choice(OPTIONS) if turn == n_turns - 1 else " ".join(words)
            messages += [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
        rows.append({"messages": messages, "known": index % 4 == 0, **columns})
    return Dataset.from_list(rows)


def make(output: Path, *, columns: dict[str, Any] | None = None, **settings: Any) -> Any:
    return make_trainer(
        output,
        **{
            "model": make_model().double(),
            "train": conversations(N, **(columns or {})),
            "calibration": conversations(9, seed=1, **(columns or {})),
            "assistant_only_loss": True,
            "per_device_train_batch_size": N,
            "optim": "sgd",
            "learning_rate": 1.0,
            "max_grad_norm": 0.0,
            "max_steps": 1,
            **settings,
        },
    )


def runs(labels: list[int]) -> list[list[int]]:
    """Positions of the supervised tokens, turn by turn."""
    marked = [(t, label != -100) for t, label in enumerate(labels)]
    return [[t for t, _ in run] for learnt, run in groupby(marked, key=lambda m: m[1]) if learnt]


def log_probabilities(trainer: Any, row: dict[str, Any]) -> torch.Tensor:
    """At each position, of the token there given those before; the first one has none."""
    ids = torch.tensor([row["input_ids"]])
    scores = trainer.model(input_ids=ids).logits[0].log_softmax(-1)
    return torch.cat([scores[:1] * 0, scores[:-1]])


def loss_by_hand(trainer: Any, unit: str) -> torch.Tensor:
    """Label smoothing where a unit's mean NLL is below the cut."""
    losses = []
    for row in trainer.train_dataset:
        scores, ids = log_probabilities(trainer, row), torch.tensor(row["input_ids"])
        units = runs(row["labels"])
        tokens = list(chain(*units))
        units = {"turn": units, "example": [tokens], "token": [[t] for t in tokens]}[unit]
        for run in units:
            nll = -scores[run, ids[run]]
            penalty = -scores[run].mean(1) - nll
            losses.append(nll + 0.3 * (nll.mean() <= CUT) * penalty)
    return torch.cat(losses).mean()


@pytest.mark.parametrize("unit", ["turn", "example", "token"])
def test_loss_and_gradient_are_those_by_hand(tmp_path: Path, unit: str) -> None:
    trainer = make(tmp_path, unit=unit, cut=CUT)
    start = weights(trainer)
    expected = loss_by_hand(trainer, unit)
    expected.backward()
    gradient = {name: p.grad.clone() for name, p in trainer.model.named_parameters()}
    trainer.model.zero_grad()
    trainer.train()
    logged = trainer.state.log_history[0]
    assert logged["loss"] == pytest.approx(expected.item(), rel=1e-5)
    of_row = {
        "turn": lambda units: len(units),
        "example": lambda _: 1,
        "token": lambda u: sum(map(len, u)),
    }
    n_units = sum(of_row[unit](runs(row["labels"])) for row in trainer.train_dataset)
    rate = logged["gate_rate"]
    assert rate * n_units == pytest.approx(round(rate * n_units))
    assert 0 < rate < 1
    for name, value in weights(trainer).items():
        torch.testing.assert_close(start[name] - value, gradient[name], rtol=1e-5, atol=1e-7)


def test_turns_and_conversations_are_not_the_same(tmp_path: Path) -> None:
    rates = []
    for unit in ("turn", "example"):
        trainer = make(tmp_path, unit=unit, cut=CUT)
        trainer.train()
        rates.append(trainer.state.log_history[0]["gate_rate"])
    assert rates[0] != rates[1]


@pytest.mark.parametrize(
    "method",
    [
        {"gate": "nll", "cut": CUT},
        {"gate": "oracle"},
        {"gate": "soft", "cut": CUT, "support": "options", "columns": {"options": OPTIONS}},
    ],
    ids=["nll", "oracle", "options"],
)
def test_turns_have_the_gradient_of_the_padded_batch_when_packed(
    tmp_path: Path, method: dict[str, Any]
) -> None:
    padded = make(tmp_path, unit="turn", **method)
    padded.train()
    layouts = ({"packing": True, "max_length": 48}, {"padding_free": True, "max_length": None})
    for layout in layouts:
        merged = make(tmp_path, unit="turn", **layout, **method)
        merged.train()
        assert_same_weights(padded, merged, tolerance=1e-6)
        assert merged.state.log_history[0]["gate_rate"] == pytest.approx(
            padded.state.log_history[0]["gate_rate"]
        )


@pytest.mark.parametrize("layout", [{}, {"packing": True, "max_length": 60}])
def test_threshold_is_that_of_one_turn_at_a_time(tmp_path: Path, layout: dict[str, Any]) -> None:
    model = make_model()
    trainer = make(
        tmp_path, model=model, unit="turn", learning_rate=0.1, max_steps=12, gate="all", **layout
    )
    trainer.train()
    trainer.model.eval()
    nll, known = [], []
    for row in trainer.calibration_dataset:
        with torch.no_grad():
            scores = log_probabilities(trainer, row)
        ids = torch.tensor(row["input_ids"])
        for run in runs(row["labels"]):
            nll.append(-scores[run, ids[run]].mean().item())
            known.append(torch.equal(scores[run].argmax(1), ids[run]))
    assert len(nll) == 18
    found = trainer.estimate_threshold()
    assert 0 < found.n_known < 18
    expected = estimate_threshold(nll, known)
    assert (found.n_known, found.n_unknown) == (expected.n_known, expected.n_unknown)
    assert found.value == pytest.approx(expected.value, rel=1e-5)


def test_label_of_an_example_goes_for_all_its_turns(tmp_path: Path) -> None:
    trainer = make(tmp_path, unit="turn", gate="oracle", calibration=None)
    trainer.train()
    turns = [1 + index % 3 for index in range(N)]
    share = sum(turns[::4]) / sum(turns)
    assert trainer.state.log_history[0]["gate_rate"] == pytest.approx(share)


def test_labels_that_never_choose_are_told_without_a_threshold(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make(tmp_path, gate="oracle", calibration=None, columns={"known": False})
    with caplog.at_level("WARNING", logger="cogcalib"):
        trainer.train()
    assert "0.0% of the training examples counted as known" in caplog.text
    assert "the model knows little of the task" in caplog.text


def test_options_belong_to_the_last_turn(tmp_path: Path) -> None:
    columns = {"options": OPTIONS}
    trainer = make(tmp_path, unit="turn", columns=columns, gate="all", support="options")
    ids = trainer.processing_class.convert_tokens_to_ids(OPTIONS)
    assert all(row == ids for row in trainer.train_dataset["option_ids"])
    penalties = []
    for row in trainer.train_dataset:
        scores = log_probabilities(trainer, row)
        last = runs(row["labels"])[-1][0]
        among = scores[last, ids].log_softmax(-1)
        penalties.append(-among.mean() + among[ids.index(row["input_ids"][last])])
    n_tokens = sum(len(run) for row in trainer.train_dataset for run in runs(row["labels"]))
    trainer.train()
    expected = (sum(penalties) / n_tokens).item()
    assert trainer.state.log_history[0]["penalty"] == pytest.approx(expected, rel=1e-5)


def test_options_of_a_whole_conversation_are_refused(tmp_path: Path) -> None:
    message = "example 1: option 'A' must be one token, the first supervised one of the example"
    with pytest.raises(ValueError, match=message):
        make(tmp_path, columns={"options": OPTIONS})


def test_answers_of_one_turn_are_units_either_way(tmp_path: Path) -> None:
    labels = [-100, -100, 6, 1]
    rows = [{"input_ids": [11 + i, 12, 6, 1], "labels": labels} for i in range(8)]
    trainers = [
        make_trainer(tmp_path, train=Dataset.from_list(rows), gate="all", calibration=None, unit=u)
        for u in ("turn", "example")
    ]
    for trainer in trainers:
        trainer.train()
    assert_same_weights(*trainers)


def test_turns_must_be_told_apart(tmp_path: Path) -> None:
    for train in (conversations(4), make_data(4)):
        with pytest.raises(ValueError, match="unit='turn' needs assistant_only_loss=True"):
            make_trainer(tmp_path, train=train, gate="all", calibration=None, unit="turn")
