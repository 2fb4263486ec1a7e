"""Smooth calibration error: a calibration error without bins."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import dct, idct
from scipy.optimize import brentq

from cogcalib.metrics._validate import BoolVector, FloatVector, check_predictions

# Cells of the grid on [0, 1]. Bandwidths below one cell, 2.4e-4, cannot be resolved; chance alone
# keeps the bandwidth of n predictions near n^(-1/3), so that takes residuals that are tiny anyway.
CELLS = 1 << 12

# A curve smoothed at bandwidth s is sampled at least this often per s: its integral is then right
# to within 5e-6, wherever it changes sign between two samples.
SAMPLES = 32

# A frequency k at which (s pi k)^2 / 2 exceeds this is smoothed away to below 1e-17.
VANISHED = 40.0


def smooth_calibration_error(confidence: ArrayLike, correct: ArrayLike) -> float:
    """SmoothECE (smECE): calibration error of the kernel-smoothed residuals, free of parameters.

    With the reflected Gaussian kernel K_s on [0, 1],

        smECE_s = integral over t in [0, 1] of | 1/n sum_i K_s(t, c_i) (c_i - y_i) | dt

    falls as the bandwidth s grows; smECE is the one s at which smECE_s = s (Błasiok & Nakkiran,
    "Smooth ECE: Principled Reliability Diagrams via Kernel Smoothing", ICLR 2024, definition 6).
    It is a consistent calibration measure: unlike ECE it does not jump when a confidence moves
    across a bin edge.

    Reflected Gaussian smoothing is the heat equation with insulated ends, diagonal in the cosine
    basis: residuals are spread onto a grid once, each bandwidth then costs one inverse cosine
    transform of as many samples as its smoothness needs. Time O(n + m log m) for m = 4,096 cells.

    Args:
        confidence: Confidence of each prediction, fraction, [n].
        correct: Whether each prediction is correct, bool or 0/1, [n].

    Returns:
        The error as a fraction in [0, 1].

    Raises:
        ValueError: For malformed arrays.
    """
    confidences, corrects = check_predictions(confidence, correct)
    return error_of(residual_spectrum(confidences, corrects))


def error_of(spectrum: FloatVector) -> float:
    """smECE from the cosine transform of the residuals, as of `residual_spectrum`."""
    finest = 1.0 / CELLS
    if smoothed_error(spectrum, 1.0) >= 1.0:
        return 1.0  # all wrong with confidence 1 (or the reverse): no bandwidth helps
    # From coarse to fine: the finest bandwidths are the dear ones, and seldom needed.
    low, high = 1.0 / 16, 1.0
    while (at_low := smoothed_error(spectrum, low)) <= low:
        if low == finest:  # nothing to smooth away above the resolution of the grid
            return at_low
        low, high = max(low / 16, finest), low
    return float(brentq(lambda s: smoothed_error(spectrum, s) - s, low, high, xtol=1e-9))


def residual_spectrum(confidences: FloatVector, corrects: BoolVector) -> FloatVector:
    """Cosine transform of the mean residual c - y on the grid, [cells]."""
    cell, lower_part, upper_part = on_grid(confidences, corrects)
    mass = np.bincount(cell, weights=lower_part, minlength=CELLS)
    mass[1:] += np.bincount(cell, weights=upper_part, minlength=CELLS)[:-1]
    return spectrum_of(mass / len(confidences))


def spectrum_of(mass: FloatVector) -> FloatVector:
    """Cosine transform of what lies in each cell, [cells]."""
    return np.asarray(dct(mass, norm="ortho"))


def on_grid(
    confidences: FloatVector, corrects: BoolVector
) -> tuple[NDArray[np.int64], FloatVector, FloatVector]:
    """The lower cell of each residual c - y, what falls into it and what into the next, [n].

    A residual is split linearly between the centres of the two cells next to its confidence,
    which keeps total and, away from the ends, mean position.
    """
    position = np.clip(confidences * CELLS - 0.5, 0.0, CELLS - 1.0)
    cell = np.minimum(position.astype(np.int64), CELLS - 2)
    residual = confidences - corrects
    upper_part = residual * (position - cell)
    return cell, residual - upper_part, upper_part


def smoothed_error(spectrum: FloatVector, bandwidth: float) -> float:
    """smECE at a fixed `bandwidth`, from the cosine transform of the residuals."""
    cells = len(spectrum)
    while cells > 256 and cells * bandwidth >= 2 * SAMPLES:
        cells //= 2
    kept = min(cells, math.ceil(math.sqrt(2 * VANISHED) / (math.pi * bandwidth)))
    curve = np.zeros(cells)
    curve[:kept] = spectrum[:kept]
    curve[:kept] *= np.exp(-0.5 * (bandwidth * np.pi * np.arange(kept)) ** 2)
    # Fewer and wider cells of the same curve.
    return float(np.abs(idct(curve, norm="ortho")).sum() * math.sqrt(len(spectrum) / cells))
