"""Anybody's arrays give a metric and a calibrator what numpy's give, or a clear refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from cogcalib.arrays import as_array
from cogcalib.metrics import (
    aurc,
    bootstrap_interval,
    brier_score,
    evaluate,
    expected_calibration_error,
    negative_log_likelihood,
    paired_bootstrap,
)
from cogcalib.posthoc import IsotonicCalibration, PlattScaling, TemperatureScaling, VectorScaling

RNG = np.random.default_rng(0)
# Of 64ths, which bfloat16 has exactly.
CONFIDENCE = RNG.integers(1, 64, 60).astype(np.float32) / 64
CORRECT = RNG.random(60) < CONFIDENCE
LOGITS = RNG.integers(-32, 32, (60, 4)).astype(np.float32) / 16
LABELS = RNG.integers(4, size=60)

USES: dict[str, Callable[[Callable[[np.ndarray], Any]], Any]] = {
    "ece": lambda f: expected_calibration_error(f(CONFIDENCE), f(CORRECT)),
    "aurc": lambda f: aurc(f(CONFIDENCE), f(CORRECT)),
    "nll": lambda f: negative_log_likelihood(f(-CONFIDENCE)),
    "evaluate": lambda f: evaluate(f(CONFIDENCE), f(CORRECT), resamples=5),
    "interval": lambda f: bootstrap_interval(brier_score, f(CONFIDENCE), f(CORRECT), resamples=5),
    "paired": lambda f: paired_bootstrap(
        brier_score, (f(CONFIDENCE), f(CORRECT)), (f(1 - CONFIDENCE), f(CORRECT)), resamples=5
    ),
    "temperature": lambda f: TemperatureScaling().fit(f(LOGITS), f(LABELS)).transform(f(LOGITS)),
    "vector": lambda f: VectorScaling().fit(f(LOGITS), f(LABELS)).transform(f(LOGITS)),
    "platt": lambda f: PlattScaling().fit(f(CONFIDENCE), f(CORRECT)).transform(f(CONFIDENCE)),
    "isotonic": lambda f: (
        IsotonicCalibration().fit(f(CONFIDENCE), f(CORRECT)).transform(f(CONFIDENCE))
    ),
}


def float_only(change: Callable[[torch.Tensor], Any]) -> Callable[[np.ndarray], Any]:
    return lambda a: change(torch.tensor(a)) if a.dtype.kind == "f" else torch.tensor(a)


SAME: dict[str, Callable[[np.ndarray], Any]] = {
    "tensor": torch.tensor,
    "bfloat16": float_only(torch.Tensor.bfloat16),
    "float16": float_only(torch.Tensor.half),
    "gradient": float_only(torch.Tensor.requires_grad_),
    "bfloat16 with gradient": float_only(lambda t: t.bfloat16().requires_grad_()),
    "sparse": float_only(torch.Tensor.to_sparse),
    "list of bfloat16": float_only(lambda t: list(t.bfloat16())),
    "list": lambda a: a.tolist(),
    "series": lambda a: pd.Series(a, index=range(len(a))[::-1]) if a.ndim == 1 else pd.DataFrame(a),
    "nothing masked": lambda a: np.ma.masked_array(a, mask=False),
}


@pytest.mark.parametrize("form", SAME)
@pytest.mark.parametrize("use", USES)
def test_every_form_gives_the_same(use: str, form: str) -> None:
    found, expected = USES[use](SAME[form]), USES[use](lambda a: a)
    if isinstance(expected, np.ndarray):
        assert np.allclose(found, expected, rtol=1e-5, atol=2e-3 if form == "float16" else 1e-6)
    else:
        assert found == expected


def masked(a: np.ndarray) -> Any:
    return np.ma.masked_array(a, mask=np.arange(a.size).reshape(a.shape) == 3)


REFUSED: dict[str, Callable[[np.ndarray], Any]] = {
    "masked": masked,
    "masked in a list": lambda a: [np.ma.masked, *a[1:]],
    "meta": lambda a: torch.tensor(a).to("meta"),
    "strings": lambda a: a.astype(str),
    "objects": lambda a: a.astype(object),
    "complex": lambda a: a.astype(complex),
    "pandas gap": lambda a: (
        pd.Series(a, dtype="Float64").mask(np.arange(len(a)) == 3)
        if a.ndim == 1
        else pd.DataFrame(a.astype(object))
    ),
}


@pytest.mark.parametrize("form", REFUSED)
@pytest.mark.parametrize("use", USES)
def test_what_is_no_number_is_refused(use: str, form: str) -> None:
    with pytest.raises(ValueError, match="must"):
        USES[use](REFUSED[form])


def test_temperature_transforms_no_text() -> None:
    scaling = TemperatureScaling().fit(LOGITS, LABELS)
    with pytest.raises(ValueError, match="logits must be numbers, got <U"):
        scaling.transform(LOGITS.astype(str))


def test_whole_confidences_and_truths_of_any_number_type() -> None:
    whole = np.array([0, 1, 1, 0])
    assert expected_calibration_error(whole, whole.astype(float)) == 0.0
    assert brier_score(torch.tensor(whole), torch.tensor(whole).bool()) == 0.0
    assert brier_score(whole.astype(bool), whole.astype(np.uint8)) == 0.0


def test_float8_and_negated_views() -> None:
    values = torch.tensor([0.5, 0.25])
    assert as_array("x", values.to(torch.float8_e4m3fn)).tolist() == [0.5, 0.25]
    assert as_array("x", torch.complex(values, values).conj().imag).tolist() == [-0.5, -0.25]
