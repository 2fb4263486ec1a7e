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
from cogcalib.harness.stages.context import Predict, Splits, Work
from cogcalib.harness.stages.members import member_seeds
from cogcalib.modeling import load_model
from cogcalib.records import Example, Prediction, write_json
from cogcalib.scoring import ScoreSettings

COST = "cost.json"
"""Beside a baseline's predictions: what it costs, as `cogcalib.baselines.Cost`."""


def check_baseline(config: Config, method: Method) -> None:
    """Raise if a method is a baseline that cannot run here.

    Raises:
        ValueError: Naming what is missing.
    """
    if method.baseline == "laplace" and importlib.util.find_spec("laplace") is None:
        raise ValueError(
            f'methods: {method.name} needs laplace-torch: pip install "cogcalib[laplace]"'
        )


def by_baseline(work: Work, method: Method, seed: int, splits: Splits, folder: Path) -> Predict:
    """Fit a baseline on the training split; returns how it predicts, and leaves its cost."""
    plain = ScoreSettings(batch_size=work.config.score.batch_size)
    baseline = _build(work, method, seed).fit(splits["train"], plain)

    def predict(examples: Sequence[Example], advance: Advance) -> list[Prediction]:
        settings = ScoreSettings(
            model_name=work.model_name(method),
            run=work.config.name,
            batch_size=work.config.score.batch_size,
            progress=advance,
        )
        predictions = baseline.predict(examples, settings)
        write_json(folder / COST, asdict(baseline.cost))
        return predictions

    return predict


def _build(work: Work, method: Method, seed: int) -> Baseline:
    config = work.config
    path, dtype, settings = config.model.path, config.model.dtype, config.baselines
    trained = work.folder.train(method.trained, seed)
    if method.baseline == "ensemble":
        folders = [
            work.folder.train(method.trained, each) for each in member_seeds(config, method, seed)
        ]
        if config.model.lora:
            return Ensemble.of_adapters(path, folders, dtype=dtype)
        return Ensemble.of_models(folders, dtype=dtype)
    model, tokenizer = load_model(path, adapter=trained, dtype=dtype)
    if method.baseline == "laplace":
        return LaplaceLoRA(model, tokenizer, layers=settings.laplace, seed=seed)
    return MCDropout(model, tokenizer, passes=settings.passes, seed=seed)
