"""Two methods on the same test questions: the difference of their ECEs, with its interval."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from cogcalib.harness.report.run_results import Run
from cogcalib.harness.report.summary import TaskSummary
from cogcalib.metrics import PairedDifference, expected_calibration_error, paired_bootstrap
from cogcalib.records import Prediction


def paired_differences(
    run: Run, task: TaskSummary, one: str, other: str, *, resamples: int = 1000
) -> dict[int, PairedDifference]:
    """ECE of `one` minus ECE of `other`, primary definition, by seed; fractions.

    Resampling inflates a small ECE more than a large one, so the interval leans towards 0: it errs
    on the side of doubt.

    Args:
        run: The loaded run; predictions are read now.
        task: Both methods, and the seeds they share.
        one, other: Method names.
        resamples: Bootstrap resamples of the questions.

    Returns:
        Seed -> difference, for the seeds whose predictions of both methods are in the run folder
        and answer the same questions; empty if there is none.
    """
    differences = {}
    for seed in task[one].seeds:
        if seed is None or seed not in task[other].seeds:
            continue
        if not all(
            run.predictions_path(name, seed, task.task, task.split).is_file()
            for name in (one, other)
        ):
            continue
        first, second = (
            {each.id: each for each in run.predictions(name, seed, task.task, task.split)}
            for name in (one, other)
        )
        if first and first.keys() == second.keys():
            differences[seed] = paired_bootstrap(
                partial(expected_calibration_error, bins=task.bins, binning=task.binning),
                _arrays([first[id] for id in first], task.primary),
                _arrays([second[id] for id in first], task.primary),
                resamples=resamples,
            )
    return differences


def _arrays(
    predictions: list[Prediction], definition: str
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Confidence and correctness, each [n]."""
    confidence = np.array([each.confidence[definition] for each in predictions], dtype=np.float64)
    return confidence, np.array([each.correct for each in predictions], dtype=bool)
