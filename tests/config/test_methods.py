"""Method names mean what DESIGN says."""

from __future__ import annotations

import pytest

from cogcalib.config import Method


@pytest.mark.parametrize(
    ("name", "trained", "penalty", "gate", "support", "posthoc"),
    [
        ("base", "base", None, "none", "vocab", None),
        ("sft+ts", "sft", None, "none", "vocab", "ts"),
        ("ls", "ls", "label_smoothing", "all", "vocab", None),
        ("mbls-options", "mbls-options", "margin", "all", "options", None),
        ("ecp", "ecp", "entropy", "all", "vocab", None),
        ("cols", "cols", "label_smoothing", "nll", "vocab", None),
        ("combls-inverted", "combls-inverted", "margin", "inverted", "vocab", None),
        ("coecp-soft", "coecp-soft", "entropy", "soft", "vocab", None),
        (
            "cols-options-random+ts",
            "cols-options-random",
            "label_smoothing",
            "random",
            "options",
            "ts",
        ),
    ],
)
def test_parse(
    name: str, trained: str, penalty: str | None, gate: str, support: str, posthoc: str | None
) -> None:
    method = Method.parse(name)
    assert method == Method(name, trained, penalty, gate, support, posthoc)


@pytest.mark.parametrize(
    "name",
    ["", "CoLS", "ls-random", "cols-random-oracle", "cols-options-options", "cols+", "sft-options"],
)
def test_nonsense_raises(name: str) -> None:
    with pytest.raises(ValueError, match="method"):
        Method.parse(name)
