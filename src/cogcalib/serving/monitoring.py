"""Metrics for Prometheus: requests, latency, queue, abstention, confidence and its drift."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from cogcalib.deployment.answer import Answer
from cogcalib.deployment.calibration_file import HISTOGRAM_BINS, Calibration
from cogcalib.deployment.split_metrics import confidence_histogram

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
EDGES = tuple((b + 1) / HISTOGRAM_BINS for b in range(HISTOGRAM_BINS))


def drift(found: Sequence[float], expected: Sequence[float]) -> float:
    """Total variation distance of two histograms: half the sum of the absolute differences.

    Args:
        found, expected: Shares by bin, [bins].

    Returns:
        0 if they are equal, 1 if they have no bin in common: the share of answers that would have
        to change their bin.
    """
    return 0.5 * float(np.abs(np.subtract(found, expected)).sum())


def drift_floor(expected: Sequence[float], n: int, m: int) -> float:
    """The drift that chance alone shows: its mean for n answers drawn as the m of calibration.

    Half the sum of ``sqrt(2 p (1 - p) (1/n + 1/m) / pi)`` over the bins, the mean absolute value
    of a normal variable of each bin's variance.

    Args:
        expected: Shares p by bin, [bins].
        n: Answers seen.
        m: Questions that `expected` was counted on.
    """
    p = np.asarray(expected, dtype=np.float64)
    return 0.5 * float(np.sqrt(2 * p * (1 - p) * (1 / n + 1 / m) / math.pi).sum())


class Recent:
    """The last answers given.

    Args:
        most: How many are kept.
        expected: Histogram of confidences on the calibration split; empty if not known.
        m: Questions it was counted on.
    """

    def __init__(self, most: int, expected: Sequence[float], m: int) -> None:
        self._answers: deque[tuple[float, bool]] = deque(maxlen=most)
        self._expected, self._m = tuple(expected), m
        self._lock = threading.Lock()

    def add(self, answer: Answer) -> None:
        """Keep an answer in mind, and forget the oldest."""
        with self._lock:
            self._answers.append((answer.confidence, answer.abstain))

    def abstention_rate(self) -> float:
        """Share of the last answers that abstain; nan before the first."""
        return self._mean(1)

    def mean_confidence(self) -> float:
        """Mean calibrated confidence of the last answers; nan before the first."""
        return self._mean(0)

    def drift(self) -> float:
        """`drift` of the last answers' confidences from the calibration split's; nan if unknown."""
        confidences = [confidence for confidence, _ in self._kept()]
        if not confidences or not self._expected:
            return math.nan
        return drift(confidence_histogram(confidences), self._expected)

    def drift_floor(self) -> float:
        """`drift_floor` for as many answers; nan if unknown."""
        n = len(self._kept())
        if not n or not self._expected or not self._m:
            return math.nan
        return drift_floor(self._expected, n, self._m)

    def _kept(self) -> list[tuple[float, bool]]:
        with self._lock:
            return list(self._answers)

    def _mean(self, column: int) -> float:
        kept = self._kept()
        return sum(each[column] for each in kept) / len(kept) if kept else math.nan


class Monitor:
    """What ``/metrics`` shows, in a registry of its own.

    Args:
        calibration: Of the model served: what drift is measured against.
        window: Answers that rates, means and drift are measured over.
        waiting: Gives the number of questions in the house.
    """

    def __init__(self, calibration: Calibration, window: int, waiting: Callable[[], float]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "cogcalib_requests",
            "Requests, by endpoint and HTTP status.",
            ("endpoint", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "cogcalib_request_seconds",
            "Time from a request's headers to the end of its response, by endpoint.",
            ("endpoint",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.batches = Histogram(
            "cogcalib_batch_questions",
            "Questions answered together.",
            buckets=BATCHES,
            registry=self.registry,
        )
        self.answers = Counter(
            "cogcalib_answers",
            "Answers given, by whether they abstain.",
            ("abstain",),
            registry=self.registry,
        )
        self.confidence = Histogram(
            "cogcalib_confidence",
            "Calibrated confidences of the answers given.",
            buckets=EDGES,
            registry=self.registry,
        )
        measured = calibration.metrics[0].n if calibration.metrics else 0
        self.recent = Recent(window, calibration.confidence_histogram, measured)
        self._gauge("queue", "Questions that wait or are being answered.", waiting)
        about = f"the last {window} answers"
        self._gauge(
            "abstention_rate", f"Share of {about} that abstain.", self.recent.abstention_rate
        )
        self._gauge("mean_confidence", f"Mean confidence of {about}.", self.recent.mean_confidence)
        self._gauge(
            "confidence_drift",
            f"Total variation distance of the confidences of {about} from calibration.json's.",
            self.recent.drift,
        )
        self._gauge(
            "confidence_drift_floor",
            "The drift that chance alone would show for as many answers.",
            self.recent.drift_floor,
        )

    def record(self, answer: Answer) -> None:
        """Count an answer given."""
        self.answers.labels(str(answer.abstain).lower()).inc()
        self.confidence.observe(answer.confidence)
        self.recent.add(answer)

    def page(self) -> bytes:
        """All metrics, in Prometheus' text format."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        Gauge(f"cogcalib_{name}", text, registry=self.registry).set_function(value)
