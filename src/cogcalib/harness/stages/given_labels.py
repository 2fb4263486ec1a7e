"""Labels from a finished ``cogcalib probe`` that a run names, in place of a probe of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cogcalib.harness.config import Config
from cogcalib.harness.config.train_sections import ModelSection
from cogcalib.knowledge import Knowledge, load_probe
from cogcalib.knowledge.probe_folder import read_claim
from cogcalib.modeling import fingerprint
from cogcalib.records import Example, ProbeRecord
from cogcalib.suggest import cut


def slick_labels(config: Config, folder: Path, examples: Sequence[Example]) -> list[ProbeRecord]:
    """The SliCK categories of questions as a run's labels.

    Args:
        config: Of the run.
        folder: Of the probe.
        examples: The questions that may be trained on.

    Returns:
        One record an example, in the order given: ``known`` is HighlyKnown, ``unknown`` is Unknown,
        ``doubtful`` what lies between.

    Raises:
        ValueError: If the folder holds no finished probe, or one of another model, of other prompts
            or without some of the questions.
        FileNotFoundError: If the probe was interrupted.
    """
    _check_model(folder, config.model)
    probed = load_probe(folder)
    kinds, found = probed.extremes(), _matched(probed, examples)
    missing = [example for example, row in zip(examples, found, strict=True) if row is None]
    if missing:
        raise ValueError(
            f"probe: {folder} lacks {len(missing)} of the {len(examples)} training questions, the "
            f"first of them {cut(missing[0].prompt)!r}; probe the whole split train that the run "
            "trains on"
        )
    return [
        _record(example, row, kinds[row.example.id], folder)
        for example, row in zip(examples, found, strict=True)
        if row is not None
    ]


def _matched(probed: Sequence[Knowledge], examples: Sequence[Example]) -> list[Knowledge | None]:
    """The row of each example, None where there is none."""
    asked = [(row.example.content_hash(), row) for row in probed]
    by_id = {(content, row.example.id): row for content, row in asked}
    # A question probed from a table and trained on from a task has two ids.
    by_text = {(content, row.example.context): row for content, row in asked}
    wanted = [(example.content_hash(), example) for example in examples]
    return [
        by_id.get((content, example.id)) or by_text.get((content, example.context))
        for content, example in wanted
    ]


def _record(example: Example, row: Knowledge, category: str, folder: Path) -> ProbeRecord:
    if row.example.preset != example.preset:
        raise ValueError(
            f"probe: {folder} worded the questions by the preset {row.example.preset!r}, "
            f"tasks.prompt is {example.preset!r}"
        )
    signals = row.signals
    return ProbeRecord(example.id, category, row.p_greedy, signals.p_gold, signals.nll, "slick")


def _check_model(folder: Path, model: ModelSection) -> None:
    """Raise ValueError unless the probe is of this model, without an adapter."""
    try:
        settings, inputs = read_claim(folder)
    except ValueError as error:
        raise ValueError(f"probe: {error}") from error
    probed = inputs.get("model", {})
    if adapter := settings.get("adapter"):
        raise ValueError(
            f"probe: {folder} is of {probed.get('path')} with the adapter {adapter}, a run starts "
            "from the model without one"
        )
    own = fingerprint(model.path, model.revision)
    kept = [name for name in ("sha256", "commit") if own[name] or probed.get(name)] or ["path"]
    if any(own[name] != probed.get(name) for name in kept):
        raise ValueError(
            f"probe: {folder} is of the model {probed.get('path')}, whose weights, tokenizer or "
            f"configuration are not those of model.path {model.path}"
        )
