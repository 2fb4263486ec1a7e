"""Questions of the real data sets in the shared folder, as our prompts ask them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from cogcalib.records import Example
from cogcalib.tasks import load_task

SPLITS = {"openbookqa": "test", "arc_challenge": "calibration", "boolq": "test"}
"""Task -> the split that is its published test or validation file."""


def questions(task: str, data_dir: Path, most: int | None = None) -> list[Example]:
    """Questions of a task, spread evenly over the split, every number of options among them."""
    examples = load_task(task, data_dir).splits[SPLITS[task]]
    if most is None or most >= len(examples):
        return list(examples)
    counts = Counter(len(example.options or ()) for example in examples)
    rare = [e for e in examples if counts[len(e.options or ())] < len(examples) // 10]
    step = len(examples) // most
    return list({e.id: e for e in [*rare, *examples[::step]]}.values())
