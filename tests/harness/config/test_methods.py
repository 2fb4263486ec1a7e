"""Method names mean what DESIGN says."""

from __future__ import annotations

import pytest

from cogcalib.harness.config import Method
from cogcalib.harness.config.sections import TrainSection


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("base", ("base", "base", None, "none", "vocab", None, None)),
        ("sft+ts", ("sft", "sft", None, "none", "vocab", None, "ts")),
        ("ls", ("ls", "ls", "label_smoothing", "all", "vocab", None, None)),
        ("mbls-options", ("mbls", "mbls-options", "margin", "all", "options", None, None)),
        ("ecp", ("ecp", "ecp", "entropy", "all", "vocab", None, None)),
        ("focal@0.5", ("focal", "focal@0.5", "focal", "all", "vocab", 0.5, None)),
        ("cols", ("cols", "cols", "label_smoothing", "nll", "vocab", None, None)),
        (
            "combls-inverted",
            ("combls", "combls-inverted", "margin", "inverted", "vocab", None, None),
        ),
        ("coecp-soft", ("coecp", "coecp-soft", "entropy", "soft", "vocab", None, None)),
        ("cols-auto", ("cols", "cols-auto", "label_smoothing", "nll", "vocab", "auto", None)),
        (
            "ls-options-calibrated",
            (
                "ls",
                "ls-options-calibrated",
                "label_smoothing",
                "all",
                "options",
                "calibrated",
                None,
            ),
        ),
        (
            "cols-options-random@1e-1+platt",
            (
                "cols",
                "cols-options-random@1e-1",
                "label_smoothing",
                "random",
                "options",
                0.1,
                "platt",
            ),
        ),
        ("drop_known", ("drop_known", "drop_known", None, "none", "vocab", None, None)),
        ("mc_dropout", ("mc_dropout", "mc_dropout", None, "none", "vocab", None, None)),
        ("ensemble+platt", ("ensemble", "sft", None, "none", "vocab", None, "platt")),
        ("laplace", ("laplace", "sft", None, "none", "vocab", None, None)),
    ],
)
def test_parse(name: str, expected: tuple[str, str, str, str, str, float | str, str]) -> None:
    assert Method.parse(name) == Method(name, *expected)


def test_before_posthoc() -> None:
    assert Method.parse("cols@0.1+platt").before_posthoc == Method.parse("cols@0.1")


def test_baseline() -> None:
    assert Method.parse("ensemble+platt").baseline == "ensemble"
    assert Method.parse("sft").baseline is None


@pytest.mark.parametrize(
    ("name", "at"), [("cols", "cols@0.05"), ("cols-options@0.1+ts", "cols-options@0.05+ts")]
)
def test_another_strength(name: str, at: str) -> None:
    assert Method.parse(name).at(0.05) == at
    assert Method.parse(at).alpha == 0.05


def test_a_margin_stands_behind_the_strength_and_is_trained_with() -> None:
    method = Method.parse("combls-options@0.2m4+ts")
    assert (method.alpha, method.margin, method.trained) == (0.2, 4.0, "combls-options@0.2m4")
    assert method.at(0.1, 2) == "combls-options@0.1m2+ts"
    assert TrainSection().margin_of(method) == 4.0
    assert TrainSection().margin_of(Method.parse("combls")) == TrainSection().margin.vocab


@pytest.mark.parametrize(
    "name",
    [
        "",
        "CoLS",
        "ls-random",
        "cols-random-oracle",
        "cols-options-options",
        "cols+",
        "sft-options",
        "sft@0.1",
        "cols@",
        "cols@-1",
        "cols@nan",
        "cols@inf",
        "cols@much",
        "cols@0.1m4",
        "combls@0.1m",
        "combls@0.1m-2",
        "combls@m4",
        "cols-auto@0.1",
        "cols-auto-calibrated",
        "combls-calibrated",
        "focal-options",
        "ensemble-auto",
        "ensemble+ts",
    ],
)
def test_nonsense_raises(name: str) -> None:
    with pytest.raises(ValueError, match="method"):
        Method.parse(name)
