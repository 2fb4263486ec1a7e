"""Predictions of the baselines that ask more than one pass of one model."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from cogcalib.baselines import Baseline, Ensemble, MCDropout
from cogcalib.baselines.laplace import LaplaceLoRA
from cogcalib.harness.config import Config, Method
from cogcalib.harness.progress import Advance
from cogcalib.harness.run_folder import cost_file
from cogcalib.harness.stages.context import Predict, RunContext, Splits, member_seeds
from cogcalib.modeling import load_model
from cogcalib.records import Example, Prediction, input_errors, write_json
from cogcalib.scoring import ScoreSettings


def check_baseline(config: Config, method: Method) -> None:
    """Raise if a method is a baseline that cannot run here.

    Raises:
        ValueError: Naming what is missing.
    """
    if method.baseline == "laplace" and importlib.util.find_spec("laplace") is None:
        raise ValueError(
            f'methods: {method.name} needs laplace-torch: pip install "cogcalib[laplace]"'
        )


def by_baseline(
    context: RunContext, method: Method, seed: int, splits: Splits, folder: Path
) -> Predict:
    """Fit a baseline on the training split; returns how it predicts, and leaves its cost."""
    plain = ScoreSettings(batch_size=context.config.score.batch_size)
    baseline = _build(context, method, seed).fit(splits["train"], plain)

    def predict(examples: Sequence[Example], advance: Advance) -> list[Prediction]:
        settings = ScoreSettings(
            model_name=context.model_name(method),
            run=context.config.name,
            batch_size=context.config.score.batch_size,
            progress=advance,
        )
        predictions = baseline.predict(examples, settings)
        write_json(cost_file(folder), asdict(baseline.cost))
        return predictions

    return predict


def _build(context: RunContext, method: Method, seed: int) -> Baseline:
    config = context.config
    path, dtype, settings = config.model.path, config.model.dtype, config.baselines
    trained = context.folder.train(method.trained, seed)
    if method.baseline == "ensemble":
        folders = [
            context.folder.train(method.trained, each)
            for each in member_seeds(config, method, seed)
        ]
        if config.model.lora:
            return Ensemble.of_adapters(path, folders, dtype=dtype)
        return Ensemble.of_models(folders, dtype=dtype)
    with input_errors():
        model, tokenizer = load_model(path, adapter=trained, dtype=dtype)
    if method.baseline == "laplace":
        return LaplaceLoRA(model, tokenizer, layers=settings.laplace, seed=seed)
    return MCDropout(model, tokenizer, passes=settings.passes, seed=seed)
