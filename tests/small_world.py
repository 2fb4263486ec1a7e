"""The embedded world with few questions: what a test asks of it is there, the rest takes time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import pytest

from cogcalib.harness.reproduce import cell_cost
from cogcalib.tasks import Task, atlas

QUESTIONS = 240
"""Of each split at most."""


@contextmanager
def small_atlas(questions: int = QUESTIONS) -> Iterator[None]:
    """Every split of the atlas tasks is cut to its first questions."""
    whole = atlas.load

    @cache
    def cut(name: str) -> Task:
        task = whole(name)
        return replace(task, splits={k: rows[:questions] for k, rows in task.splits.items()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atlas, "load", cut)
        cell_cost._sizes.cache_clear()  # it keeps how many questions there are
        try:
            yield
        finally:
            cell_cost._sizes.cache_clear()


@pytest.fixture(scope="module", autouse=True)
def small_world() -> Iterator[None]:
    """`small_atlas` for a whole file of tests, which imports this fixture."""
    with small_atlas():
        yield
