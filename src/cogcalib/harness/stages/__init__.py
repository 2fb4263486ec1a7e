"""The stages of a run, one function each. A finished one finds its artifact and does nothing."""

from __future__ import annotations

from cogcalib.harness.stages.baselines import COST as BASELINE_COST
from cogcalib.harness.stages.begin import Begun, begin
from cogcalib.harness.stages.context import Splits, Work, open_folder
from cogcalib.harness.stages.data import choose_splits, describe_tasks, load_tasks, read_splits
from cogcalib.harness.stages.members import member_seeds
from cogcalib.harness.stages.probe import probe_base, read_probe
from cogcalib.harness.stages.report import report
from cogcalib.harness.stages.score import load_trained, score, try_out
from cogcalib.harness.stages.train import Loaded, check_methods, train, train_into

__all__ = [
    "BASELINE_COST",
    "Begun",
    "Loaded",
    "Splits",
    "Work",
    "begin",
    "check_methods",
    "choose_splits",
    "describe_tasks",
    "load_tasks",
    "load_trained",
    "member_seeds",
    "open_folder",
    "probe_base",
    "read_probe",
    "read_splits",
    "report",
    "score",
    "train",
    "train_into",
    "try_out",
]
