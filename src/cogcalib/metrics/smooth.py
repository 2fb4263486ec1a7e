"""Smooth calibration error: a calibration error without bins."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cogcalib.metrics._validate import BoolVector, FloatVector, check_predictions

# Cells of the grid on [0, 1]. Bandwidths below one cell, 2.4e-4, cannot be resolved; chance alone
# keeps the bandwidth of n predictions near n^(-1/3), so that takes residuals that are tiny anyway.
CELLS = 1 << 12

# A curve smoothed at bandwidth s is sampled at least this often per s: its integral is then right
# to within 5e-6, wherever it changes sign between two samples.
SAMPLES = 32

# A frequency k at which (s pi k)^2 / 2 exceeds this is smoothed away to below 1e-17.
VANISHED = 40.0

# Bandwidths as near to each other as this are one.
CLOSE = 1e-9

# Where the search for the bandwidth begins, and by how much log(smECE_s / s) falls there per log s.
FIRST, FALL = 1.0 / 16, 1.3

# Secants need five turns or six; whoever has not come to an end by then halves the interval.
SECANTS = 12


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
    return float(errors_of(residual_spectrum(confidences, corrects)[np.newaxis])[0])


def errors_of(spectra: FloatVector) -> FloatVector:
    """smECE of each cosine transform of residuals, as of `residual_spectrum`.

    As smECE_s falls with the bandwidth s, the s that equals it lies between any s and its smECE_s.
    log(smECE_s / s) is nearly a line over log s, so that few secants find where it is 0.

    Args:
        spectra: [resamples, cells].

    Returns:
        Fractions, [resamples]; each depends on its own row alone, to the bit.
    """
    finest, rows = 1.0 / CELLS, np.arange(len(spectra))
    found, at = np.empty(len(rows)), np.full(len(rows), FIRST)
    low, high = np.full(len(rows), finest), np.ones(len(rows))
    last = np.full((2, len(rows)), np.nan)
    turn = 0
    while len(rows):
        error = smoothed_errors(spectra, at, rows)
        low = np.maximum(low, np.minimum(at, error))
        high = np.minimum(high, np.maximum(at, error))
        here = np.log([at, np.maximum(error, finest) / at])
        with np.errstate(invalid="ignore", divide="ignore"):
            fall = -(here[1] - last[1]) / (here[0] - last[0]) if turn else np.array(FALL)
        following = np.clip(at * np.exp(here[1] / np.fmax(fall, 1.0)), low, np.maximum(low, high))
        following = following if turn < SECANTS else (low + high) / 2
        found[rows] = at
        going = (np.abs(error - at) > CLOSE) & (high - low > CLOSE)
        rows, at, last = rows[going], following[going], here[:, going]
        low, high, turn = low[going], high[going], turn + 1
    # Nothing to smooth away above the resolution of the grid: what is left there is the error.
    tiny = np.flatnonzero(found <= finest + CLOSE)
    found[tiny] = np.minimum(
        found[tiny], smoothed_errors(spectra, np.full(len(tiny), finest), tiny)
    )
    return found


def residual_spectrum(confidences: FloatVector, corrects: BoolVector) -> FloatVector:
    """Cosine transform of the mean residual c - y on the grid, [cells]."""
    cell, lower_part, upper_part = on_grid(confidences, corrects)
    mass = np.bincount(cell, weights=lower_part, minlength=CELLS)
    mass[1:] += np.bincount(cell, weights=upper_part, minlength=CELLS)[:-1]
    return spectrum_of(mass / len(confidences))


def spectrum_of(mass: FloatVector) -> FloatVector:
    """Cosine transform of what lies in each cell, [cells]."""
    from scipy.fft import dct  # a fifth of the start of what never asks for smooth ECE

    return np.asarray(dct(mass, norm="ortho"))


def on_grid(
    confidences: FloatVector, corrects: BoolVector
) -> tuple[NDArray[np.int64], FloatVector, FloatVector]:
    """The lower cell of each residual c - y, what falls into it and what into the next, [n].

    A residual is split linearly between the centres of the two cells next to its confidence,
    which keeps total and, away from the ends, mean position.
    """
    cell, share = grid_place(confidences)
    residual = confidences - corrects
    upper_part = residual * share
    return cell, residual - upper_part, upper_part


def grid_place(confidences: FloatVector) -> tuple[NDArray[np.int64], FloatVector]:
    """The lower of the two cells next to each confidence, and the share of the upper one, [n]."""
    position = np.clip(confidences * CELLS - 0.5, 0.0, CELLS - 1.0)
    cell = np.minimum(position.astype(np.int64), CELLS - 2)
    return cell, position - cell


def smoothed_errors(
    spectra: FloatVector, bandwidths: FloatVector, rows: NDArray[np.intp]
) -> FloatVector:
    """smECE at given bandwidths, from cosine transforms of residuals.

    Args:
        spectra: [resamples, cells].
        bandwidths: In (0, 1], one for each of `rows`.
        rows: Of `spectra`, [m].
    """
    from scipy.fft import idct

    cells = spectra.shape[1]
    found = np.empty(len(rows))
    # As many samples and frequencies for all bandwidths from a power of 2 to the next.
    halvings = -np.floor(np.log2(bandwidths)).astype(np.intp)
    for each in np.unique(halvings):
        some = np.flatnonzero(halvings == each)
        samples = min(cells, max(256, SAMPLES << int(each)))
        kept = min(samples, math.ceil(math.sqrt(2 * VANISHED) / math.pi * 2.0**each))
        damped = np.exp(-0.5 * (bandwidths[some, np.newaxis] * np.pi * np.arange(kept)) ** 2)
        damped *= spectra[:, :kept][rows[some]]
        # Fewer and wider cells of the same curve.
        curves = np.abs(idct(damped, n=samples, norm="ortho"))
        found[some] = curves.sum(axis=1) * math.sqrt(cells / samples)
    return found
