"""The knowledge ledger pass by pass: what was learnt, what was forgotten, how confidence grew."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PassSummary:
    """One pass over the training data; shares are fractions of the units seen in it.

    A unit counts as known where its NLL is at most the threshold in force; before the first
    threshold, at most the first. `at_first` splits the units by what they were at their first pass.

    Attributes:
        number: 1 is the first.
        step: Median optimiser step at which its units were seen.
        n: Units seen.
        known: Share known.
        learnt: Share known that were not at the pass before; 0 in the first.
        forgotten: Share not known that were at the pass before; 0 in the first.
        penalty: Mean penalty applied, nats.
        at_first: ``known`` and ``unknown`` -> accuracy and confidence now, fractions; None where
            there is no such unit.
    """

    number: int
    step: int
    n: int
    known: float
    learnt: float
    forgotten: float
    penalty: float
    at_first: dict[str, tuple[float, float] | None]


class Passes:
    """A ledger as matrices, a row a unit and a column a pass; nan where a pass did not come.

    Args:
        ledger: What `cogcalib.knowledge.ledger.read_ledger` returned, of at least one row.

    Attributes:
        examples: Id of each row's example.
        units: Number of each row's unit in its example.
        values: Column of the ledger -> float64 [rows, passes].
        known: Whether each was known, float64 [rows, passes].

    Raises:
        ValueError: If the ledger is empty, or no threshold ever came into force.
    """

    def __init__(self, ledger: pa.Table) -> None:
        if not len(ledger):
            raise ValueError("ledger must have at least one row, got none")
        encoded = ledger["example"].combine_chunks().dictionary_encode()
        example = encoded.indices.to_numpy().astype(np.int64)
        unit, epoch, step = (ledger[name].to_numpy() for name in ("unit", "epoch", "step"))
        order = np.lexsort((step, epoch, unit, example))
        # Of what came twice in an epoch the first counts.
        keys = np.stack([example, unit, epoch])[:, order]
        order = order[np.append(True, (keys[:, 1:] != keys[:, :-1]).any(0))]
        _, column = np.unique(epoch[order], return_inverse=True)
        owners = np.stack([example, unit])[:, order]
        starts = np.flatnonzero(np.append(True, (owners[:, 1:] != owners[:, :-1]).any(0)))
        row = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(order))))
        names = encoded.dictionary.to_pylist()
        self.examples = [names[at] for at in owners[0, starts]]
        self.units = owners[1, starts]
        self.values: dict[str, NDArray[np.float64]] = {}
        for name in ledger.column_names[2:]:
            matrix = np.full((len(starts), column.max() + 1), np.nan)
            matrix[row, column] = ledger[name].to_numpy()[order]
            self.values[name] = matrix
        self.known = self._judge()

    def _judge(self) -> NDArray[np.float64]:
        nll, threshold, step = (self.values[name] for name in ("nll", "threshold", "step"))
        judged = ~np.isnan(threshold)
        if not judged.any():
            raise ValueError("the ledger has no threshold: its gate was open without one")
        first = threshold[judged][np.argmin(step[judged])]
        cut = np.where(judged, threshold, first)
        return np.where(np.isnan(nll), np.nan, nll <= cut)

    def summaries(self) -> list[PassSummary]:
        """Every pass, the first one first."""
        return [self._summary(number) for number in range(self.known.shape[1])]

    def forgotten(self) -> list[str]:
        """Examples with a unit that was known once and is not at its last pass."""
        seen = ~np.isnan(self.known)
        last = self.known[np.arange(len(seen)), seen.shape[1] - 1 - seen[:, ::-1].argmax(1)]
        lost = (np.nansum(self.known, axis=1) > 0) & (last == 0)
        return list(dict.fromkeys(self.examples[row] for row in np.flatnonzero(lost)))

    def _summary(self, number: int) -> PassSummary:
        here = ~np.isnan(self.known[:, number])
        now = self.known[here, number]
        before = now if number == 0 else self.known[here, number - 1]
        accuracy, confidence = (self.values[name][here, number] for name in ("right", "confidence"))
        first = self.known[here, 0]
        return PassSummary(
            number=number + 1,
            step=int(np.median(self.values["step"][here, number])),
            n=int(here.sum()),
            known=float(now.mean()),
            learnt=float((now > before).mean()),
            forgotten=float((now < before).mean()),
            penalty=float(self.values["penalty"][here, number].mean()),
            at_first={
                name: (float(accuracy[rows].mean()), float(confidence[rows].mean()))
                if rows.any()
                else None
                for name, rows in (("known", first == 1), ("unknown", first == 0))
            },
        )
