"""The mistakes a plainly fine-tuned model is surest of, and how sure the calibrated model is."""

from __future__ import annotations

from dataclasses import dataclass

from cogcalib.harness.config.methods import label
from cogcalib.harness.report.page_data import speller
from cogcalib.harness.report.run_results import Run
from cogcalib.harness.report.singled_out import single_out
from cogcalib.harness.report.summary import TaskSummary
from cogcalib.records import Example, Prediction


@dataclass(frozen=True, slots=True)
class Mistake:
    """One wrong answer. Confidences are fractions; `other_*` is the method compared with.

    Attributes:
        question: The question, or the example's id if the run folder kept no examples.
        gold: The correct answer.
        answer: The wrong one given.
        confidence: How sure the model was.
        other_answer, other_confidence: What the other method said; None if it has no such row.
        other_correct: Whether that was correct.
    """

    question: str
    gold: str
    answer: str
    confidence: float
    other_answer: str | None = None
    other_confidence: float | None = None
    other_correct: bool = False


def confident_mistakes(
    run: Run, task: TaskSummary, *, most: int = 8
) -> tuple[tuple[str, str], list[Mistake]]:
    """The most confident mistakes of SFT beside the CogCalib variant singled out.

    Args:
        run: The loaded run.
        task: The task, with the seeds to read (the first of SFT's).
        most: How many to show.

    Returns:
        The labels of the two methods, and the mistakes, surest first; empty if the run has no
        predictions of both, or no variant could be chosen.
    """
    best = single_out(run, task).method
    if "sft" not in task or best is None:
        return ("", ""), []
    seed = task["sft"].seeds[0]
    files = [run.predictions_path(name, seed or 0, task.task) for name in ("sft", best)]
    labels = label("sft"), label(best)
    if seed is None or not all(file.is_file() for file in files):
        return labels, []
    wrong = [p for p in run.predictions("sft", seed, task.task) if not p.correct]
    wrong.sort(key=lambda each: (-each.confidence[task.primary], each.id))
    others = {each.id: each for each in run.predictions(best, seed, task.task)}
    examples = run.examples
    return labels, [
        _mistake(each, others.get(each.id), examples.get(each.id), task.primary)
        for each in wrong[:most]
    ]


def _mistake(
    wrong: Prediction, other: Prediction | None, example: Example | None, primary: str
) -> Mistake:
    spelled = speller(example)
    return Mistake(
        question=example.prompt if example else wrong.id,
        gold=spelled(wrong.answer),
        answer=spelled(wrong.prediction),
        confidence=wrong.confidence[primary],
        other_answer=spelled(other.prediction) if other else None,
        other_confidence=other.confidence[primary] if other else None,
        other_correct=bool(other and other.correct),
    )
