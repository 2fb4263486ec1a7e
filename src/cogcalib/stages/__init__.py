"""The stages of a run, one function each. A finished one finds its artifact and does nothing."""

from __future__ import annotations

from cogcalib.stages.baselines import COST as BASELINE_COST
from cogcalib.stages.begin import Begun, begin
from cogcalib.stages.data import choose_splits, describe_tasks, load_tasks, read_splits
from cogcalib.stages.members import member_seeds
from cogcalib.stages.probe import probe_base, read_probe
from cogcalib.stages.report import report
from cogcalib.stages.score import load_trained, score, try_out
from cogcalib.stages.train import Loaded, check_methods, train, train_into
from cogcalib.stages.work import Splits, Work, open_folder

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
