"""Gates where the training set is memorised: does one that does not saturate train better models?

    python experiments/gate_saturation.py --output runs/gates --seeds 0 1 2

The preset `atlas` on 400 questions instead of 1,600, hence 16 epochs. CoLS-options at the preset's
constant alpha under four gates, and plain fine-tuning:

- `nll`: the method. What was memorised falls under any threshold, so that it opens for everything.
- `prior`: as `nll` when an example is first met after the style phase, never judged again.
- `folds`: fixed labels. Each half of the training questions is judged by a model that was plainly
  fine-tuned on the other half for 25 steps, about two epochs; the threshold is that model's on the
  calibration split. The labels reach the training by `oracle`.
- `all`: no gate, label smoothing of every example.

The style phase is half an epoch, as in the demo (the preset's 50 steps would be two), so that
`prior` judges one half of the questions unseen and the other seen once. Thresholds are estimated
when the trainer chooses to: thrice in the first epoch, then once in each. A seed draws its own
training questions, folds, order and halves of the calibration split: one steers the training, on
the other the temperature is fitted. Test questions are asked once, after the training.

`prior` or `folds` replaces `nll` only if NLL after a temperature is lower, the paired interval over
questions and seeds below 0; if that interval holds 0, Brier score decides in the same way.

Each training is kept in OUTPUT/seed-N/GATE; one that is there is not repeated. Writes
OUTPUT/gate-saturation.json and .md after each seed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from carry_halfway import METRICS, Asked, Values, ways
from carry_why import gold_of

from cogcalib.artifacts import read_json
from cogcalib.harness.config import Config, Method, parse_config
from cogcalib.harness.report.columns import MISSING
from cogcalib.harness.reproduce.definitions import load_preset, merge
from cogcalib.harness.stages.context import THRESHOLD, Splits, of_seed
from cogcalib.harness.stages.settle import settled
from cogcalib.harness.stages.train import train_into
from cogcalib.jsonl import read_jsonl, write_jsonl
from cogcalib.knowledge import estimate_threshold, read_signals
from cogcalib.knowledge.ledger import has_ledger, read_ledger
from cogcalib.metrics import (
    PairedDifference,
    clustered_paired_bootstrap,
    resample_weights,
    resampled_mean,
)
from cogcalib.modeling import load_model
from cogcalib.posthoc import TemperatureScaling
from cogcalib.provenance import code_state, versions
from cogcalib.records import KNOWN, UNKNOWN, Prediction, ProbeRecord, write_json, write_text
from cogcalib.scoring import score
from cogcalib.scoring.posthoc import option_shares
from cogcalib.tasks import draw, halve, load_task

TASK = "atlas/country"
GATES = {
    "sft": "sft", "nll": "cols-options", "prior": "cols-options-prior",
    "folds": "cols-options-oracle", "all": "ls-options",
}  # fmt: skip
"""Gate -> method, as in a configuration."""
PAIRS = [
    ("prior", "nll"), ("folds", "nll"), ("all", "nll"), ("sft", "nll"),
    ("prior", "all"), ("folds", "all"),
]  # fmt: skip
CANDIDATES = ("prior", "folds")
RAW, TEMPERED = "none", "temperature"
RESAMPLES = 1000
MEASURES = {
    "accuracy": lambda weights, asked: resampled_mean(weights, asked.correct), **METRICS
}  # fmt: skip
Labels = Mapping[str, ProbeRecord]
Found = dict[str, list[dict[str, Any]]]
"""Gate -> what `cell` measured with each seed."""


@dataclass(frozen=True)
class Regime:
    """How long, on how many questions; None: all of a split."""

    questions: int = 400
    steps: int = 400
    style_steps: int = 12
    fold_steps: int = 25
    calibration: int | None = None
    test: int | None = None

    def config(self, steps: int, style_steps: int, method: str) -> Config:
        """The preset's configuration, so long."""
        own = {
            "name": "gate-saturation",
            "methods": [method],
            "tasks": {"train": TASK},
            "train": {"steps": steps, "style_steps": style_steps, "threshold_every": None},
        }
        text = json.dumps(merge(load_preset("atlas").config, own))
        return settled(parse_config(text))[0]

    def splits(self, seed: int) -> Splits:
        """The questions of a seed."""
        found = load_task(TASK).splits
        return {
            "train": draw(found["train"], self.questions, seed),
            "calibration": draw(found["calibration"], self.calibration, 0),
            "test": draw(found["test"], self.test, 0),
        }


def fold_labels(splits: Splits, seed: int, regime: Regime, folder: Path) -> Labels:
    """Each training question judged by a model that was trained on the other half of them."""
    unasked = {each.id: ProbeRecord(each.id, UNKNOWN, 0, 0, 0) for each in splits["train"]}
    config = regime.config(regime.fold_steps, 0, "sft")
    labels: dict[str, ProbeRecord] = {}
    for number, fold in enumerate(halve(unasked, seed)):
        judged = [each for each in splits["train"] if each.id in fold]
        learnt = [each for each in splits["train"] if each.id not in fold]
        output = folder / f"fold-{number}"
        shutil.rmtree(output, ignore_errors=True)
        given = {**splits, "train": learnt}
        train_into(output, config, Method.parse("sft"), seed, given, unasked, _unwatched)
        model, tokenizer = load_model(config.model.path, adapter=output)
        held_out = of_seed(splits, seed)[THRESHOLD]
        # As a calibration pass has it: NLL of the supervised tokens, arg max over the options.
        cut = estimate_threshold(
            [each.nll for each in read_signals(model, tokenizer, held_out)],
            [each.correct for each in score(model, tokenizer, held_out)],
        )
        signals = read_signals(model, tokenizer, judged)
        answers = score(model, tokenizer, judged)
        for each, signs, answer in zip(judged, signals, answers, strict=True):
            category = KNOWN if signs.nll <= cut.value else UNKNOWN
            labels[each.id] = ProbeRecord(
                each.id, category, float(answer.correct), signs.p_gold, signs.nll, "folds"
            )
    return labels


def _unwatched(_: object) -> Any:
    return lambda done: None


def cell(folder: Path, gate: str, seed: int, splits: Splits, labels: Labels, how: Regime) -> None:
    """Train under one gate, ask calibration and test questions; cell.json is written last."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = how.config(how.steps, how.style_steps, GATES[gate])
    started = time.perf_counter()
    output = folder / "model"
    train_into(output, config, Method.parse(GATES[gate]), seed, splits, labels, _unwatched)
    seconds = time.perf_counter() - started
    model, tokenizer = load_model(config.model.path, adapter=output)
    for split, asked in (("calibration", of_seed(splits, seed)["calibration"]),
                         ("test", splits["test"])):  # fmt: skip
        write_jsonl(folder / f"{split}.jsonl", score(model, tokenizer, asked))
    write_json(folder / "cell.json", {"seconds": round(seconds, 1), **epochs(output)})


def epochs(training: Path) -> dict[str, list[float]]:
    """Of each epoch: share of examples for which the gate was open, and that were correct.

    Nothing of plain fine-tuning, which keeps no ledger.
    """
    if not has_ledger(training):
        return {"open": [], "correct": []}
    ledger = read_ledger(training)
    epoch = ledger["epoch"].to_numpy()
    return {
        name: [float(ledger[column].to_numpy()[epoch == at].mean()) for at in np.unique(epoch)]
        for name, column in (("open", "weight"), ("correct", "right"))
    }


def answers(folder: Path, splits: Splits) -> tuple[dict[str, Asked], float]:
    """The test questions as they are and after a temperature, and that temperature."""
    examples = {(e.task, e.split, e.id): e for split in splits.values() for e in split}
    rows = {name: read_jsonl(folder / f"{name}.jsonl", Prediction) for name in splits if
            name != "train"}  # fmt: skip
    gold = {name: gold_of(of, examples) for name, of in rows.items()}
    shares = {name: option_shares(of, len(of[0].option_logprobs or ())) for name, of in
              rows.items()}  # fmt: skip
    fitted = TemperatureScaling().fit(shares["calibration"], gold["calibration"]).temperature_
    return ways(shares["test"], gold["test"], {RAW: 1.0, TEMPERED: fitted}), fitted


def seed_cells(
    output: Path, seed: int, regime: Regime, weights: Values
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each gate with one seed, trained unless it is there: gate and what it measured."""
    splits, folder = regime.splits(seed), output / f"seed-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    held = folder / "folds.jsonl"
    if not held.exists():
        write_jsonl(held, fold_labels(splits, seed, regime, folder).values())
    labels = {row.id: row for row in read_jsonl(held, ProbeRecord)}
    for gate in GATES:
        if not (folder / gate / "cell.json").exists():
            cell(folder / gate, gate, seed, splits, labels, regime)
        asked, fitted = answers(folder / gate, splits)
        drawn = {
            way: {name: measure(weights, each) for name, measure in MEASURES.items()}
            for way, each in asked.items()
        }
        kept = read_json(folder / gate / "cell.json", dict, "remove its folder")
        print(f"seed {seed} {gate}: {kept['seconds']} s", flush=True)
        yield gate, {**kept, "temperature": fitted, "drawn": drawn}


def compared(found: Found, way: str, metric: str, a: str, b: str) -> PairedDifference:
    """Gate a minus gate b, questions and seeds drawn."""
    tables = [np.array([each["drawn"][way][metric] for each in found[gate]]) for gate in (a, b)]
    values, draws = [each[:, 0] for each in tables], [each[:, 1:] for each in tables]
    return clustered_paired_bootstrap(*values, *draws)


def replaces(nll: PairedDifference, brier: PairedDifference) -> bool:
    """Whether a gate takes the place of another, by its differences after a temperature."""
    return nll.high < 0 or (nll.low <= 0 <= nll.high and brier.high < 0)


def record_of(found: Found, seeds: Sequence[int], regime: Regime) -> dict[str, Any]:
    """Means over seeds, differences, verdicts: what the JSON holds."""
    gates = {
        gate: {
            "open": np.mean([each["open"] for each in cells], axis=0).tolist(),
            "correct": np.mean([each["correct"] for each in cells], axis=0).tolist(),
            "seconds": [each["seconds"] for each in cells],
            "temperatures": [each["temperature"] for each in cells],
            "test": {
                way: {name: [float(each["drawn"][way][name][0]) for each in cells]
                      for name in MEASURES}
                for way in (RAW, TEMPERED)
            },
        }
        for gate, cells in found.items()
    }  # fmt: skip
    differences = {
        f"{a} - {b}": {
            way: {name: asdict(compared(found, way, name, a, b)) for name in MEASURES}
            for way in (RAW, TEMPERED)
        }
        for a, b in PAIRS
    }
    verdicts = {
        gate: replaces(*(compared(found, TEMPERED, name, gate, "nll") for name in METRICS
                         if name in ("NLL", "Brier")))
        for gate in CANDIDATES
    }  # fmt: skip
    return {
        "seeds": list(seeds), "regime": asdict(regime), "gates": gates,
        "differences": differences, "replaces_nll": verdicts,
        "code": code_state(), "versions": versions(),
    }  # fmt: skip


def page(record: Mapping[str, Any]) -> Iterator[str]:
    """Lines of Markdown: metrics, shares by epoch, differences, verdicts."""
    names = list(MEASURES)
    yield f"| gate, seeds {record['seeds']} | temperature | known % | {' | '.join(names)} |"
    yield "| :--- " + "| ---: " * (2 + len(names)) + "|"
    for gate, row in record["gates"].items():
        known = f"{100 * row['open'][-1]:.1f}" if row["open"] else MISSING
        for way, metrics in row["test"].items():
            fitted = MISSING if way == RAW else f"{np.mean(row['temperatures']):.2f}"
            values = [f"{np.mean(metrics[name]):.4f} ± {_spread(metrics[name]):.4f}"
                      for name in names]  # fmt: skip
            yield f"| {gate} | {fitted} | {known} | {' | '.join(values)} |"
    epochs = range(1, len(record["gates"]["nll"]["open"]) + 1)
    for share in ("open", "correct"):
        yield f"\n| {share}, % of the training examples | {' | '.join(map(str, epochs))} |"
        yield "| :--- " + "| ---: " * len(epochs) + "|"
        for gate, row in record["gates"].items():
            if row[share]:
                yield f"| {gate} | {' | '.join(f'{100 * each:.0f}' for each in row[share])} |"
    yield f"\n| after a temperature | {' | '.join(names)} |"
    yield "| :--- " + "| ---: " * len(names) + "|"
    for pair, by_way in record["differences"].items():
        told = [f"{each['difference']:+.4f} [{each['low']:+.4f}, {each['high']:+.4f}]"
                for each in by_way[TEMPERED].values()]  # fmt: skip
        yield f"| {pair} | {' | '.join(told)} |"
    yield ""
    for gate, taken in record["replaces_nll"].items():
        yield f"`{gate}` {'replaces' if taken else 'does not replace'} `nll`."


def _spread(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def run(output: Path, seeds: Sequence[int], regime: Regime, resamples: int = RESAMPLES) -> None:
    """Every seed and gate; the tables are written after each seed."""
    n = len(regime.splits(seeds[0])["test"])
    weights = np.vstack([np.full((1, n), 1 / n), resample_weights(n, resamples)])
    found: Found = {}
    for done, seed in enumerate(seeds, 1):
        for gate, measured in seed_cells(output, seed, regime, weights):
            found.setdefault(gate, []).append(measured)
        record = record_of(found, seeds[:done], regime)
        write_json(output / "gate-saturation.json", record)
        write_text(output / "gate-saturation.md", "\n".join(page(record)) + "\n")


def main() -> None:
    """Train, compare, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    run(options.output, options.seeds, Regime())
    print((options.output / "gate-saturation.md").read_text("utf-8"))


if __name__ == "__main__":
    main()
