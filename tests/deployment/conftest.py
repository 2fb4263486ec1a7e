"""The tiny models and their questions, and models saved with a calibration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import choices, llama, model, questions, tokenizer

from cogcalib.deployment import AnswerFormat, Calibration, write_calibration
from cogcalib.deployment.identity import identify

__all__ = ["choices", "llama", "model", "questions", "saved", "tokenizer"]


@pytest.fixture
def saved(tmp_path: Path, llama, tokenizer) -> Callable[..., Path]:
    """Save the tiny Llama with a calibration whose fields may be given."""

    def save(answers: AnswerFormat | None = None, **fields) -> Path:
        folder = tmp_path / "model"
        llama.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        identity = identify(folder, tokenizer)
        calibration = Calibration(identity, answers or AnswerFormat("options", "options"))
        write_calibration(folder, replace(calibration, **fields))
        return folder

    return save
