"""Three ways to carry calibration over, one seed each.

    python experiments/carry_trials.py

Plain fine-tuning on atlas/country, and besides it
- `mean`: its weights averaged over the second half of the steps;
- `anchor`: KL(p_base || p_theta) over the options, on questions of three other tasks that nobody
  answered, added to the loss with weight 1; these three tasks are not judged;
- `distance`: a temperature exp(a + b d), with d the mean cosine distance of a question's last
  hidden state to those of its ten nearest training questions, fitted in domain (density-aware
  calibration, arXiv 2302.05118).

Printed for each: means of NLL, ECE and Brier score over the other tasks, as it is, with the
temperature fitted in domain, and halfway between that and the one without labels (`+tsdaca`).
The other tasks have a test split alone: 500 of its questions are asked with seed 0, and what is
kept must be judged with other seeds.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from regime import fine_tuned
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from cogcalib.harness.reproduce.definitions import load_preset
from cogcalib.metrics import expected_calibration_error
from cogcalib.modeling import load_model
from cogcalib.modeling.encoding import Encoded, encode_batch
from cogcalib.posthoc import TemperatureScaling
from cogcalib.records import Example
from cogcalib.tasks import draw, load_task
from cogcalib.training import CogCalibTrainer

TRAINED = "atlas/country"
ANCHORED = ("atlas/currency", "atlas/language", "atlas/time-zone")
JUDGED = (
    "atlas/continent",
    "atlas/national-capital",
    "atlas/neighbour",
    "atlas/calling-code",
    "atlas/domain",
    "atlas/country-code",
)
MOST = 500
"""Questions of a split."""
NEAREST = 10
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Asked:
    """A model's answers to questions: logits of the options, hidden states, correct positions."""

    logits: Values
    hidden: Values
    gold: NDArray[np.int64]


def batch_of(rows: Sequence[Encoded], padding: int) -> dict[str, torch.Tensor]:
    """Prompts, padded on the left, so that the answer comes after the last position."""
    width = max(len(row.prompt_ids) for row in rows)
    ids = [[padding] * (width - len(row.prompt_ids)) + row.prompt_ids for row in rows]
    mask = [[0] * (width - len(row.prompt_ids)) + [1] * len(row.prompt_ids) for row in rows]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


@torch.no_grad()
def asked(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, questions: Sequence[Example]
) -> Asked:
    """Ask a model in batches of 50."""
    model.eval()
    encoded = encode_batch(questions, tokenizer)
    logits, hidden = [], []
    for start in range(0, len(encoded), 50):
        rows = encoded[start : start + 50]
        out = model(**batch_of(rows, tokenizer.pad_token_id), output_hidden_states=True)
        ids = torch.tensor([row.option_ids for row in rows])
        logits.append(out.logits[:, -1].gather(1, ids).double().numpy())
        hidden.append(out.hidden_states[-1][:, -1].double().numpy())
    gold = [[o.letter for o in e.options or ()].index(e.answer) for e in questions]
    return Asked(np.concatenate(logits), np.concatenate(hidden), np.array(gold))


class Averaged(TrainerCallback):
    """The mean of the trainable weights over the second half of the steps, put in at the end."""

    def __init__(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.steps = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step * 2 <= state.max_steps:
            return
        self.steps += 1
        for name, weight in trainable(kwargs["model"]).items():
            self.sums[name] = self.sums.get(name, 0) + weight.detach().double()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for name, weight in trainable(kwargs["model"]).items():
            weight.data.copy_(self.sums[name] / self.steps)


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def anchored(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> type[CogCalibTrainer]:
    """A trainer that keeps the base model's belief on unlabelled questions of `ANCHORED`."""
    pool = [e for name in ANCHORED for e in draw(load_task(name).splits["test"], MOST, 0)]
    rows = encode_batch(pool, tokenizer)
    beliefs = torch.tensor(log_softmax(asked(base, tokenizer, pool).logits, axis=1))
    rng = random.Random(0)

    class Anchored(CogCalibTrainer):
        def compute_loss(self, model: nn.Module, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(model, inputs, *args, **kwargs)
            if not model.training or isinstance(loss, tuple):
                return loss
            drawn = rng.sample(range(len(rows)), 16)
            batch = batch_of([rows[i] for i in drawn], tokenizer.pad_token_id)
            ids = torch.tensor([rows[i].option_ids for i in drawn])
            ours = model(**batch).logits[:, -1].gather(1, ids).log_softmax(1)
            theirs = beliefs[drawn].to(ours.dtype)
            return loss + (theirs.exp() * (theirs - ours)).sum(1).mean()

    return Anchored


def nll(logits: Values, gold: NDArray[np.int64]) -> float:
    return float(-log_softmax(logits, axis=1)[np.arange(len(gold)), gold].mean())


def fitted(made: Asked) -> float:
    """The temperature of lowest NLL."""
    return TemperatureScaling().fit(made.logits, made.gold).temperature_


def unlabelled(made: Asked, base: Asked) -> float:
    """The temperature at which the confidence is the base model's where the two agree."""
    alike = made.logits.argmax(1) == base.logits.argmax(1)
    theirs = np.exp(log_softmax(base.logits[alike], axis=1))
    return _scaled(
        lambda t: float(-(theirs * log_softmax(made.logits[alike] / t, axis=1)).sum(1).mean())
    )


def _scaled(loss: Any) -> float:
    found = minimize_scalar(lambda u: loss(np.exp(u)), bounds=(-3, 4), method="bounded")
    return float(np.exp(found.x))


def distances(made: Asked, train: Asked) -> Values:
    """Mean cosine distance to the nearest training questions, [n, 1]."""
    one, other = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in
                  (made.hidden, train.hidden))  # fmt: skip
    near = np.sort(1 - one @ other.T, axis=1)[:, :NEAREST]
    return near.mean(axis=1, keepdims=True)


def by_distance(calibration: Asked, train: Asked) -> Any:
    """Logits under the temperature exp(a + b d), b at least 0, fitted in domain."""
    there = distances(calibration, train)
    scale = there.mean()
    found = minimize(
        lambda x: nll(calibration.logits / np.exp(x[0] + x[1] * there / scale), calibration.gold),
        [0.0, 0.0], bounds=[(-3, 4), (0, 5)],
    )  # fmt: skip
    print(f"distance: a {found.x[0]:.2f}, b {found.x[1]:.2f} for each mean distance {scale:.4f}")
    return lambda made: (
        made.logits
        / np.exp(np.clip(found.x[0] + found.x[1] * distances(made, train) / scale, -3, 4))
    )


def told(name: str, logits: Mapping[str, Values], gold: Mapping[str, NDArray[np.int64]]) -> None:
    """One line: means over the tasks."""
    rows = []
    for task, scaled in logits.items():
        shares = np.exp(log_softmax(scaled, axis=1))
        correct = scaled.argmax(1) == gold[task]
        sure = np.minimum(shares.max(1), 1.0)
        ece = expected_calibration_error(sure, correct)
        rows.append([correct.mean(), nll(scaled, gold[task]), ece, ((sure - correct) ** 2).mean()])
    accuracy, mean_nll, ece, brier = np.mean(rows, axis=0)
    print(f"| {name} | {accuracy:.1%} | {mean_nll:.3f} | {ece:.1%} | {brier:.3f} |", flush=True)


def main() -> None:
    """Train three times, print the table."""
    torch.set_num_threads(1)
    base, tokenizer = load_model("atlas")
    rate = load_preset("atlas").config["train"]["learning_rate"]
    splits = dict.fromkeys(JUDGED, "test") | {TRAINED: "calibration"}
    questions = {
        name: draw(load_task(name).splits[split], MOST, 0) for name, split in splits.items()
    }
    theirs = {name: asked(base, tokenizer, rows) for name, rows in questions.items()}
    gold = {name: theirs[name].gold for name in JUDGED}
    ways = {"sft": {}, "mean": {"callbacks": [Averaged()]},
            "anchor": {"kind": anchored(base, tokenizer)}}  # fmt: skip
    for way, given in ways.items():
        trainer = fine_tuned("atlas", "country", rate, **given)
        made = {name: asked(trainer.model, tokenizer, rows) for name, rows in questions.items()}
        own = made.pop(TRAINED)
        in_domain = fitted(own)
        told(f"{way}, in domain", {TRAINED: own.logits}, {TRAINED: own.gold})
        told(way, {name: m.logits for name, m in made.items()}, gold)
        told(f"{way}+ts", {name: m.logits / in_domain for name, m in made.items()}, gold)
        halfway = {
            name: np.sqrt(in_domain * unlabelled(m, theirs[name])) for name, m in made.items()
        }
        told(f"{way}+tsdaca", {name: m.logits / halfway[name] for name, m in made.items()}, gold)
        best = {name: m.logits / fitted(m) for name, m in made.items()}
        told(f"{way}, oracle temperature", best, gold)
        if way == "sft":
            train = draw(load_task(TRAINED).splits["train"], 1600, 0)
            scale = by_distance(own, asked(trainer.model, tokenizer, train))
            told("sft, distance", {name: scale(m) for name, m in made.items()}, gold)


if __name__ == "__main__":
    main()
