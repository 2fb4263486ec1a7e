"""Smooth calibration error: a calibration error without bins."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.fft import dct, idct
from scipy.optimize import brentq

from cogcalib.metrics._validate import BoolVector, FloatVector, check_predictions

# Cells of the grid on [0, 1]. Bandwidths below one cell, 6e-5, cannot be resolved; chance alone
# keeps the bandwidth of n predictions near n^(-1/3), so that takes residuals that are tiny anyway.
CELLS = 1 << 14


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
    transform. Time O(n + m log m) for m = 16,384 cells.

    Args:
        confidence: Confidence of each prediction, fraction, [n].
        correct: Whether each prediction is right, bool or 0/1, [n].

    Returns:
        The error as a fraction in [0, 1].

    Raises:
        ValueError: For malformed arrays.
    """
    spectrum = residual_spectrum(*check_predictions(confidence, correct))
    finest = 1.0 / CELLS
    at_finest, at_coarsest = smoothed_error(spectrum, finest), smoothed_error(spectrum, 1.0)
    if at_finest <= finest:  # nothing to smooth away above the resolution of the grid
        return at_finest
    if at_coarsest >= 1.0:  # all wrong with confidence 1 (or the reverse): no bandwidth helps
        return 1.0
    return float(brentq(lambda s: smoothed_error(spectrum, s) - s, finest, 1.0, xtol=1e-9))


def residual_spectrum(confidences: FloatVector, corrects: BoolVector) -> FloatVector:
    """Cosine transform of the mean residual c - y on the grid, [cells].

    A residual is split linearly between the centres of the two cells next to its confidence,
    which keeps total and, away from the ends, mean position.
    """
    position = np.clip(confidences * CELLS - 0.5, 0.0, CELLS - 1.0)
    cell = np.minimum(position.astype(np.int64), CELLS - 2)
    residual = confidences - corrects
    upper_part = residual * (position - cell)
    mass = np.bincount(cell, weights=residual - upper_part, minlength=CELLS)
    mass[1:] += np.bincount(cell, weights=upper_part, minlength=CELLS)[:-1]
    return np.asarray(dct(mass / len(confidences), norm="ortho"))


def smoothed_error(spectrum: FloatVector, bandwidth: float) -> float:
    """smECE at a fixed `bandwidth`, from the cosine transform of the residuals."""
    frequency = np.pi * np.arange(len(spectrum))
    decay = np.exp(-0.5 * (bandwidth * frequency) ** 2)
    return float(np.abs(idct(spectrum * decay, norm="ortho")).sum())
