"""Predictions of a method, in domain and out of domain."""

from __future__ import annotations

from functools import partial

from cogcalib.config import Method
from cogcalib.modeling import load_model
from cogcalib.progress import Advance
from cogcalib.scoring import ScoreSettings, fit_temperatures
from cogcalib.scoring import score as score_examples
from cogcalib.stages.work import Splits, Work


def score(work: Work, method: Method, seed: int, splits: Splits) -> None:
    """Predictions of a method on every split but the training one, post-hoc calibrated if asked."""
    output = work.folder.predictions(method.name, seed)
    verb = "recalibrate" if method.posthoc else "score"
    label = f"{verb}: {method.name}, seed {seed}"
    if output.exists():
        work.progress.skipped(label)
        return
    config = work.config
    trained = work.folder.train(method.trained, seed)
    if method.trained == "base":
        model, tokenizer = load_model(config.model.path, dtype=config.model.dtype)
    elif config.model.lora:
        model, tokenizer = load_model(config.model.path, adapter=trained, dtype=config.model.dtype)
    else:
        model, tokenizer = load_model(trained, dtype=config.model.dtype)
    scored = {name: examples for name, examples in splits.items() if name != "train"}
    total = sum(len(examples) for examples in scored.values())
    unfinished = output.with_name(f"{output.name}.partial")
    with work.progress.stage(label, total) as advance:
        temperature: dict[str, float] = {}
        if method.posthoc:
            batches = ScoreSettings(batch_size=config.score.batch_size)
            fitted = fit_temperatures(model, tokenizer, scored["calibration"], batches)
            for name, scaling in fitted.items():
                scaling.save(unfinished / f"temperature-{name}.json")
                temperature[name] = scaling.temperature_
        done = 0
        for examples in scored.values():
            settings = ScoreSettings(
                model_name=work.model_name(method),
                run=config.name,
                batch_size=config.score.batch_size,
                temperature=temperature,
                progress=partial(_after, advance, done),
            )
            predictions = score_examples(model, tokenizer, examples, settings)
            done += len(examples)
            work.folder.write_predictions(unfinished, predictions)
    unfinished.rename(output)


def _after(advance: Advance, before: int, done: int) -> None:
    advance(before + done)
