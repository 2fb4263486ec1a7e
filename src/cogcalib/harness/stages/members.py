"""Which trainings a method rests on."""

from __future__ import annotations

from cogcalib.harness.config import Config, Method

MEMBERS_APART = 1000
"""Between the seeds of an ensemble's members: far enough that runs of other seeds share none."""


def member_seeds(config: Config, method: Method, seed: int) -> list[int]:
    """Seeds of the trainings that a method rests on: one, or those of an ensemble's members."""
    members = config.baselines.members if method.baseline == "ensemble" else 1
    return [seed + MEMBERS_APART * k for k in range(members)]
