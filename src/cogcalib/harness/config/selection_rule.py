"""Rules that `cogcalib.harness.selection` applies."""

from __future__ import annotations

from typing import Literal

Rule = Literal["nll", "ece"]
DEFAULT_RULE: Rule = "nll"
"""What alphas, the best of several methods, and the variant of a report are chosen by."""
