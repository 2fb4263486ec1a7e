"""One tokenizer on the disk for all models trained in a run folder."""

from __future__ import annotations

import filecmp
import os
from pathlib import Path

from cogcalib.harness.run_folder import unfinished

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt")


def share_tokenizer(trained: Path) -> None:
    """Make the tokenizer's files hard links to those of another training, where they are the same.

    On a file system without hard links they stay copies.

    Args:
        trained: A finished training, ``train/<method>/seed-<s>``.
    """
    for name in TOKENIZER_FILES:
        own, draft = trained / name, trained / f"{name}.link"
        for other in sorted(trained.parent.parent.glob(f"*/*/{name}")):
            # What is still being trained may be written again, in place.
            training = unfinished(other.parent.with_suffix("")) == other.parent
            if other == own or training or not own.is_file():
                continue
            try:
                if filecmp.cmp(other, own, shallow=False):
                    draft.unlink(missing_ok=True)
                    os.link(other, draft)
                    draft.replace(own)
            except OSError:
                pass
            break
