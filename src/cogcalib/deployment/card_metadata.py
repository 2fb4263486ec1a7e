"""The metadata of a model card: what the hub reads, the `model-index` of results among it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from cogcalib.deployment.calibration_file import OPTIONS, Calibration
from cogcalib.deployment.card_text import METRICS, CardText, one_line

_OURS = {"base_model", "library_name", "pipeline_tag", "tags", "model-index", "model_name"}
_MADE_WITH = {"ece": {"bins": 15, "binning": "width"}}


def card_metadata(
    text: CardText,
    kept: Mapping[str, Any],
    *,
    tags: Sequence[str] = (),
    datasets: Sequence[str] = (),
) -> str:
    """The metadata as YAML, without the lines around it.

    Args:
        text: Of the card.
        kept: Metadata of the card that it replaces: what is not written here stays, its tags
            included.
        tags: More tags.
        datasets: Hub ids of the data trained on.
    """
    results = list(_results(text.calibration))
    own = ["cogcalib", "calibration", "trl"]
    if text.adapter is not None and text.hub_base:
        own.append(f"base_model:adapter:{text.hub_base}")
    old = [each for each in kept.get("tags") or [] if not str(each).startswith("base_model:")]
    others = {key: value for key, value in kept.items() if key not in _OURS}
    if datasets:
        others["datasets"] = list(datasets)
    data = ModelCardData(
        base_model=text.hub_base,
        library_name="peft" if text.adapter is not None else "transformers",
        pipeline_tag="text-generation",
        tags=[*own, *map(str, old), *tags],
        model_name=one_line(text.name) if results else None,
        eval_results=results or None,
        **others,
    )
    return data.to_yaml()


def _results(calibration: Calibration) -> Iterator[EvalResult]:
    """A result a metric, fractions, the NLL in nats; with the map in force where there is one."""
    definition = calibration.answers.confidence
    task = "multiple-choice" if calibration.answers.kind == OPTIONS else "question-answering"
    for measured in calibration.metrics:
        both = (("own", measured.raw), ("calibrated", measured.calibrated))
        for confidence, metrics in both:
            for name in (each for each in METRICS if each in metrics):
                row = metrics[name]
                made: dict[str, Any] = {
                    "confidence": f"{definition}, {confidence}",
                    "interval": [row["low"], row["high"]],
                    "level": 0.95,
                    **_MADE_WITH.get(name, {}),
                    **({"answers": "teacher-forced"} if measured.teacher_forced else {}),
                }
                yield EvalResult(
                    task_type=task,
                    dataset_type="custom",
                    dataset_name=one_line(measured.split),
                    # Results of one split and revision are one entry of the index.
                    dataset_split=one_line(measured.split),
                    dataset_revision=measured.sha256,
                    dataset_args={"n": measured.n},
                    metric_type=name,
                    metric_name=f"{METRICS[name].partition(',')[0]}, {confidence} confidence",
                    metric_value=row["value"],
                    metric_args=made,
                )
