"""Names that transformers has changed and other libraries still use."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def old_names() -> Iterator[None]:
    """Around what lets PEFT put an adapter on a model.

    PEFT 0.21 reads an attribute of the model by the name it had before transformers 5.23, and users
    would be warned of what only PEFT can change.
    """
    with warnings.catch_warnings():
        told = "`is_gradient_checkpointing` is deprecated"
        warnings.filterwarnings("ignore", told, FutureWarning)
        yield
