"""The stages of a run, one function each. A finished one finds its artifact and does nothing."""

from __future__ import annotations

from cogcalib.harness.stages.asked_models import AskedModels, load_trained
from cogcalib.harness.stages.begin import Begun, begin
from cogcalib.harness.stages.context import (
    RunContext,
    Splits,
    member_seeds,
    of_seed,
    open_folder,
)
from cogcalib.harness.stages.prepare import choose_splits, describe_tasks, load_tasks, read_splits
from cogcalib.harness.stages.probe import probe_base
from cogcalib.harness.stages.report import report
from cogcalib.harness.stages.score import (
    check_base,
    maps_predictions,
    score,
    try_out,
    unfit_base,
)
from cogcalib.harness.stages.settle import settled, with_steps
from cogcalib.harness.stages.train import Loaded, check_methods, train, train_into

__all__ = [
    "AskedModels",
    "Begun",
    "Loaded",
    "RunContext",
    "Splits",
    "begin",
    "check_base",
    "check_methods",
    "choose_splits",
    "describe_tasks",
    "load_tasks",
    "load_trained",
    "maps_predictions",
    "member_seeds",
    "of_seed",
    "open_folder",
    "probe_base",
    "read_splits",
    "report",
    "score",
    "settled",
    "train",
    "train_into",
    "try_out",
    "unfit_base",
    "with_steps",
]
