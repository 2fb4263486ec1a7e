"""Predictions of the baselines: not those of one pass of one model as it was trained."""

from __future__ import annotations

import importlib.util

from cogcalib.baselines import Baseline, Ensemble, Interpolation, MCDropout
from cogcalib.baselines.laplace import LaplaceLoRA
from cogcalib.harness.config import Method
from cogcalib.harness.stages.context import RunContext, Splits, member_seeds
from cogcalib.modeling import load_model
from cogcalib.records import input_errors
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


def fit_baseline(context: RunContext, method: Method, seed: int, splits: Splits) -> Baseline:
    """The baseline of a method, fitted.

    Args:
        context: Of the run.
        method: The method.
        seed: Of its training.
        splits: As the seed has them. An adapter's scale is chosen on the half of the calibration
            split that post-hoc maps are fitted on; the others take the training split.
    """
    plain = ScoreSettings(batch_size=context.config.score.batch_size)
    split = "calibration" if method.baseline == "interp" else "train"
    return _build(context, method, seed).fit(splits[split], plain)


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
    if method.baseline == "interp":
        with input_errors():
            return Interpolation(model, tokenizer)
    return MCDropout(model, tokenizer, passes=settings.passes, seed=seed)
