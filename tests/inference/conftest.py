"""The tiny models and their questions."""

from __future__ import annotations

from tiny_models import choices, llama, model, questions, tokenizer

__all__ = ["choices", "llama", "model", "questions", "tokenizer"]
