"""Abstention rules to try."""

from __future__ import annotations

from cogcalib.deployment import AbstentionRule


def rule(target: float, threshold: float | None) -> AbstentionRule:
    """A rule with a threshold; None promises nothing."""
    reason = "" if threshold is not None else "too few questions"
    return AbstentionRule(target, 0.1, threshold, 500, 0.5, (0.4, 0.6), 0.01, "h", "0", reason)
