"""Predictions of the baselines that ask more than one pass of one model."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from cogcalib.baselines import Baseline, Ensemble, MCDropout
from cogcalib.baselines.laplace import LaplaceLoRA
from cogcalib.harness.config import Method
from cogcalib.harness.stages.context import RunContext, member_seeds
from cogcalib.modeling import load_model
from cogcalib.records import Example, input_errors
from cogcalib.scoring import ScoreSettings


def check_baseline(method: Method) -> None:
    """Raise if a method is a baseline that cannot run here.

    Raises:
        ValueError: Naming what is missing.
    """
    if method.baseline == "laplace" and importlib.util.find_spec("laplace") is None:
        raise ValueError(
            f'methods: {method.name} needs laplace-torch: pip install "cogcalib[laplace]"'
        )


def fit_baseline(
    context: RunContext, method: Method, seed: int, train: Sequence[Example]
) -> Baseline:
    """The baseline of a method, fitted on the training split."""
    plain = ScoreSettings(batch_size=context.config.score.batch_size)
    return _build(context, method, seed).fit(train, plain)


def _build(context: RunContext, method: Method, seed: int) -> Baseline:
    config = context.config
    path, how, settings = config.model.path, config.model.loading(), config.baselines
    trained = context.folder.train(method.trained, seed)
    if method.baseline == "ensemble":
        folders = [
            context.folder.train(method.trained, each)
            for each in member_seeds(config, method, seed)
        ]
        if config.model.lora:
            return Ensemble.of_adapters(path, folders, **how)
        return Ensemble.of_models(folders, **config.model.loading(trained=True))
    with input_errors():
        model, tokenizer = load_model(path, adapter=trained, **how)
    if method.baseline == "laplace":
        return LaplaceLoRA(model, tokenizer, layers=settings.laplace, seed=seed)
    return MCDropout(model, tokenizer, passes=settings.passes, seed=seed)
