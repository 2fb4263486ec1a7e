"""Started by `accelerate launch`: every process scores and writes what it got to a folder."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from cogcalib.inference.batching import process
from cogcalib.jsonl import write_jsonl
from cogcalib.modeling import load_model
from cogcalib.scoring import ScoreSettings, score
from cogcalib.tasks import load_task

TASKS = ("atlas/country", "atlas/country-open")
EXAMPLES = 203
"""Several batches for two processes, not as many for one as for the other."""


def predictions(task: str) -> list:
    """What is compared, from however many processes there are."""
    torch.set_num_threads(1)
    model, tokenizer = load_model("atlas", device="cpu")
    settings = ScoreSettings(max_new_tokens=6)
    return score(model, tokenizer, load_task(task).splits["test"][:EXAMPLES], settings)


if __name__ == "__main__":
    for task in TASKS:
        found = predictions(task)
        rank, processes = process()
        name = f"{task.replace('/', '-')}.{rank}-of-{processes}.jsonl"
        write_jsonl(Path(sys.argv[1]) / name, found)
