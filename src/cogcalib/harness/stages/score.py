"""Predictions of a method, in domain and out of domain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cogcalib.harness.config import Method
from cogcalib.harness.progress import Advance
from cogcalib.harness.stages.baselines import by_baseline
from cogcalib.harness.stages.context import Predict, Splits, Work
from cogcalib.modeling import load_model
from cogcalib.records import Example, Prediction
from cogcalib.scoring import (
    ScoreSettings,
    apply_confidence_maps,
    apply_vector_scaling,
    fit_confidence_maps,
    fit_temperatures,
    fit_vector_scaling,
)
from cogcalib.scoring import score as score_examples


def score(work: Work, method: Method, seed: int, splits: Splits) -> None:
    """Predictions of a method on every split but the training one, post-hoc calibrated if asked."""
    output = work.folder.predictions(method.name, seed)
    verb = "recalibrate" if method.posthoc else "score"
    label = f"{verb}: {method.name}, seed {seed}"
    if output.exists():
        work.progress.skipped(label)
        return
    scored = {name: examples for name, examples in splits.items() if name != "train"}
    unfinished = output.with_name(f"{output.name}.partial")
    if method.posthoc not in (None, "ts"):
        score(work, method.before_posthoc, seed, splits)
    with work.progress.stage(label, sum(map(len, scored.values()))) as advance:
        if method.baseline and not method.posthoc:
            predict = by_baseline(work, method, seed, splits, unfinished)
        elif method.posthoc in (None, "ts"):
            predict = _by_model(work, method, seed, splits, unfinished)
        else:
            predict = _by_map(work, method, seed, splits, unfinished)
        done = 0
        for examples in scored.values():
            predictions = predict(examples, partial(_after, advance, done))
            done += len(examples)
            work.folder.write_predictions(unfinished, predictions)
    unfinished.rename(output)


def try_out(work: Work, method: Method, seed: int, splits: Splits) -> None:
    """Predictions of a method on the calibration split alone, to choose by: never on a test."""
    output = work.folder.tune(method.name, seed)
    label = f"tune: {method.name}, seed {seed}"
    if output.exists():
        work.progress.skipped(label)
        return
    examples = splits["calibration"]
    unfinished = output.with_name(f"{output.name}.partial")
    with work.progress.stage(label, len(examples)) as advance:
        predict = _by_model(work, method, seed, splits, unfinished)
        work.folder.write_predictions(unfinished, predict(examples, advance))
    unfinished.rename(output)


def _by_model(work: Work, method: Method, seed: int, splits: Splits, folder: Path) -> Predict:
    """Ask the model itself, at temperatures of its own if the method has them."""
    batch_size = work.config.score.batch_size
    model, tokenizer = load_trained(work, method, seed)
    temperature: dict[str, float] = {}
    if method.posthoc:
        batches = ScoreSettings(batch_size=batch_size)
        fitted = fit_temperatures(model, tokenizer, splits["calibration"], batches)
        for name, scaling in fitted.items():
            scaling.save(folder / f"temperature-{name}.json")
            temperature[name] = scaling.temperature_

    def predict(examples: Sequence[Example], advance: Advance) -> list[Prediction]:
        settings = ScoreSettings(
            model_name=work.model_name(method),
            run=work.config.name,
            batch_size=batch_size,
            temperature=temperature,
            progress=advance,
        )
        return score_examples(model, tokenizer, examples, settings)

    return predict


def _by_map(work: Work, method: Method, seed: int, splits: Splits, folder: Path) -> Predict:
    """Map the predictions that the method made before."""
    before = work.folder.predictions(method.before_posthoc.name, seed)
    made = {(row.task, row.split, row.id): row for row in _flat(work, before)}

    def of(examples: Sequence[Example]) -> list[Prediction]:
        name = work.model_name(method)
        return [replace(made[e.task, e.split, e.id], model=name) for e in examples]

    calibration = splits["calibration"]
    if method.posthoc == "vector":
        scaling = fit_vector_scaling(of(calibration), calibration)
        scaling.save(folder / "vector.json")
        return lambda examples, _: apply_vector_scaling(scaling, of(examples), examples)
    maps = fit_confidence_maps(str(method.posthoc), of(calibration))
    for name, fitted in maps.items():
        fitted.save(folder / f"{method.posthoc}-{name}.json")
    return lambda examples, _: apply_confidence_maps(maps, of(examples))


def load_trained(
    work: Work, method: Method, seed: int
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model that a method asks, as it was fine-tuned with a seed."""
    config = work.config
    trained = work.folder.train(method.trained, seed)
    if method.trained == "base":
        return load_model(config.model.path, dtype=config.model.dtype)
    if config.model.lora:
        return load_model(config.model.path, adapter=trained, dtype=config.model.dtype)
    return load_model(trained, dtype=config.model.dtype)


def _flat(work: Work, folder: Path) -> list[Prediction]:
    return [row for rows in work.folder.read_predictions(folder) for row in rows]


def _after(advance: Advance, before: int, done: int) -> None:
    advance(before + done)
