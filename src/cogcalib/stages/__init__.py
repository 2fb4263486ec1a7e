"""The stages of a run, one function each. A finished one finds its artifact and does nothing."""

from __future__ import annotations

from cogcalib.stages.data import choose_splits, describe_tasks, load_tasks
from cogcalib.stages.probe import probe_base
from cogcalib.stages.report import report
from cogcalib.stages.score import score
from cogcalib.stages.train import check_methods, train
from cogcalib.stages.work import Splits, Work

__all__ = [
    "Splits",
    "Work",
    "check_methods",
    "choose_splits",
    "describe_tasks",
    "load_tasks",
    "probe_base",
    "report",
    "score",
    "train",
]
