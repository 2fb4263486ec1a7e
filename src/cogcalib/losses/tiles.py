"""One tile of logits: from logits to statistics and, in place, to the gradient.

A tile holds the logits of some tokens. Work on its elements goes row block by row block, so that on
a CPU the several steps find the block in the cache. On CUDA a block is the tile, and the same steps
run eagerly, kernel after kernel; how fast has not been measured yet.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from cogcalib.losses.projection import Projection
from cogcalib.losses.statistics import TokenStatistics
from cogcalib.losses.terms import NO_OPTION, Penalty, focal, focal_slope

_CPU_BLOCK_BYTES = 2**20
_CHUNK = 256


class Tiles:
    """The tiles of a batch of tokens, one after the other in one buffer.

    Call `load` for some rows, which fills in their statistics, then `differentiate`, if at all, for
    the same rows.

    Args:
        projection: Where logits come from.
        targets: ``[N]``.
        option_ids: ``[N, K]``, filled up with -1; or None.
        rows: The largest tile.
    """

    def __init__(
        self, projection: Projection, targets: Tensor, option_ids: Tensor | None, rows: int
    ) -> None:
        self.projection, self.targets, self.option_ids = projection, targets, option_ids
        n, vocabulary = len(targets), projection.vocabulary
        like = torch.empty((), dtype=projection.dtype, device=targets.device)
        self._tile = like.new_empty(min(rows, n), vocabulary)
        self._block = min(rows, n)
        if targets.device.type == "cpu":
            row_bytes = max(1, vocabulary * like.element_size())
            self._block = min(self._block, max(1, _CPU_BLOCK_BYTES // row_bytes))
        self._scratch: dict[str, Tensor] = {}
        self._best = torch.zeros_like(targets)
        self._tied = torch.zeros_like(targets, dtype=torch.bool)
        self.penalty = like.new_zeros(n)
        self.statistics = TokenStatistics(
            ce=like.new_zeros(n),
            entropy=like.new_zeros(n),
            correct=torch.zeros_like(targets, dtype=torch.bool),
            target_logit=like.new_zeros(n),
            log_confidence=like.new_zeros(n),
            option_scores=None if option_ids is None else like.new_zeros(option_ids.shape),
        )

    def load(self, rows: slice) -> Tensor:
        """Compute the logits of some rows into the buffer; all their statistics become known.

        Returns:
            The tile, ``[len(rows), V]``, valid until the next call.
        """
        tile = self._tile[: rows.stop - rows.start]
        self.projection.logits_into(tile, rows)
        found = self.statistics
        for block, at in self._blocks(rows):
            logits, targets = tile[block], self.targets[at]
            best, tied = first_maximum(logits)
            p = self._probabilities(logits)
            log_confidence = _pick(p, best).log_()
            largest, target_logit = _pick(logits, best), _pick(logits, targets)
            self._best[at], self._tied[at] = best, tied
            found.correct[at] = best == targets
            found.target_logit[at] = target_logit
            found.log_confidence[at] = log_confidence
            # The difference of two logits keeps the digits that subtracting log Z would lose.
            found.ce[at] = largest - target_logit - log_confidence
            found.entropy[at] = largest - log_confidence - torch.linalg.vecdot(p, logits)
            if self.option_ids is not None and found.option_scores is not None:
                ids = self.option_ids[at]
                scores = logits.gather(1, ids.clamp(min=0))
                found.option_scores[at] = scores.masked_fill(ids == NO_OPTION, -torch.inf)
        return tile

    def differentiate(
        self,
        tile: Tensor,
        rows: slice,
        penalty: Penalty,
        weights: Tensor | None,
        with_ce: bool = True,
    ) -> None:
        """Turn rows just loaded into ``d (CE + w R) / d logits`` before the softcap, in place.

        With weights it fills in R.

        Args:
            tile: What `load` returned.
            rows: The rows it was given.
            penalty: R over the vocabulary.
            weights: w of each row, ``[len(rows)]``; None: 0.
            with_ce: False: only ``d (w R) / d logits``.
        """
        for block, at in self._blocks(rows):
            logits = tile[block]
            slope = self._slope(logits)
            p = self._probabilities(logits)
            if weights is not None:
                self._penalise(penalty, logits, p, at, weights[block, None], float(with_ce))
            elif with_ce:
                logits.copy_(p)
            else:
                logits.zero_()
            if with_ce:
                minus_one = logits.new_full((len(logits), 1), -1.0)
                logits.scatter_add_(1, self.targets[at, None], minus_one)
            if slope is not None:
                logits.mul_(slope)

    def _probabilities(self, logits: Tensor) -> Tensor:
        # Faster than exp on a CPU, and the sum is 1 to the last bit.
        return torch.softmax(logits, 1, out=self._scratch_rows("probabilities", len(logits)))

    def _penalise(
        self, penalty: Penalty, logits: Tensor, p: Tensor, at: slice, w: Tensor, ce: float
    ) -> None:
        """From logits to ``w dR/dz + ce p`` in place, ce 0 or 1; R goes where it is collected."""
        found = self.statistics
        targets = self.targets[at, None]
        if penalty.kind == "entropy":
            entropy = found.entropy[at]
            self.penalty[at] = -entropy
            if penalty.entropy_floor is not None:
                self.penalty[at] = torch.relu(penalty.entropy_floor - entropy)
                w = w * (entropy < penalty.entropy_floor)[:, None]
            # dR/dz_v = p_v (z_v - log Z + H)
            log_normaliser = found.target_logit[at] + found.ce[at]
            constant = w * (entropy - log_normaliser)[:, None] + ce
            logits.mul_(w).add_(constant).mul_(p)
        elif penalty.kind == "label_smoothing":
            # dR/dz_v = 1[v = y] - 1/V
            self.penalty[at] = found.target_logit[at] - logits.mean(1)
            torch.sub(p if ce else p.zero_(), w / p.shape[1], out=logits)
            logits.scatter_add_(1, targets, w)
        elif penalty.kind == "focal":
            # dR/dz_v = dR/dCE (p_v - 1[v = y])
            self.penalty[at] = focal(found.ce[at], penalty.gamma)
            w = w * focal_slope(found.ce[at], penalty.gamma)[:, None]
            torch.mul(p, w + ce, out=logits).scatter_add_(1, targets, -w)
        else:
            self._penalise_margin(penalty, logits, p if ce else p.zero_(), at, w)

    def _penalise_margin(
        self, penalty: Penalty, logits: Tensor, rest: Tensor, at: slice, w: Tensor
    ) -> None:
        """``dR/dz_v = -1[gap_v > m] + count(gap > m) 1[gap_v = 0] / count(gap = 0)``, gaps to the
        largest logit: equal maxima share its gradient evenly, as `torch.amax` does."""
        size = logits.shape[1] if penalty.margin_reduction == "mean" else 1
        best = self._best[at, None]
        largest = logits.gather(1, best)
        # Equal maxima are rare, and looking for them takes as long as all the rest here.
        tied = (logits == largest).to(logits) if bool(self._tied[at].any()) else None
        excess = torch.sub(largest - penalty.margin, logits, out=logits).relu_()
        self.penalty[at] = excess.sum(1) / size
        active = excess.sign_()
        count = active.sum(1, keepdim=True)
        if tied is None:
            active.scatter_add_(1, best, -count)
        else:
            active.addcmul_(tied, -count / tied.sum(1, keepdim=True))
        torch.addcmul(rest, active, w / -size, out=logits)

    def _slope(self, logits: Tensor) -> Tensor | None:
        if self.projection.softcap is None:
            return None
        slope = self._scratch_rows("slope", len(logits))
        torch.div(logits, self.projection.softcap, out=slope)
        return slope.square_().neg_().add_(1)

    def _scratch_rows(self, name: str, rows: int) -> Tensor:
        if name not in self._scratch:
            self._scratch[name] = self._tile.new_empty(self._block, self._tile.shape[1])
        return self._scratch[name][:rows]

    def _blocks(self, rows: slice) -> Iterator[tuple[slice, slice]]:
        """Row blocks of a tile: where they are in the tile, and in the batch."""
        for start in range(0, rows.stop - rows.start, max(1, self._block)):
            stop = min(start + self._block, rows.stop - rows.start)
            yield slice(start, stop), slice(rows.start + start, rows.start + stop)


def tile_rows(tile_bytes: int, vocabulary: int, dtype: torch.dtype) -> int:
    """How many tokens' logits fit into a budget, at least one."""
    rows = tile_bytes // max(1, vocabulary * dtype.itemsize)
    # Matrix products like whole vectors of rows.
    return max(1, rows // 16 * 16 if rows >= 16 else rows)


def first_maximum(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Where the largest score of a row is, the first of equals, and whether there are equals.

    On a CPU torch finds the largest value of a row about 20 times as fast as its position, so
    that the position is looked for among chunks' maxima and then in its chunk.

    Args:
        scores: ``[n, V]``.

    Returns:
        ``scores.argmax(1)``, ``[n]``, and ``[n]`` bool.
    """
    length = scores.shape[1] // _CHUNK * _CHUNK
    largest = scores[:, :length].unflatten(1, (length // _CHUNK, _CHUNK)).amax(2)
    if length < scores.shape[1]:
        largest = torch.cat([largest, scores[:, length:].amax(1, keepdim=True)], 1)
    start = largest.argmax(1, keepdim=True) * _CHUNK
    positions = start + torch.arange(_CHUNK, device=scores.device)
    # Beyond the last column stands that column again: never larger, never the first.
    chunk = scores.gather(1, positions.clamp(max=scores.shape[1] - 1))
    place = chunk.argmax(1, keepdim=True)
    maximum = chunk.gather(1, place)
    inside = positions < scores.shape[1]
    equals = (largest == maximum).sum(1) + ((chunk == maximum) & inside).sum(1)
    return (start + place).squeeze(1), equals > 2


def _pick(scores: Tensor, ids: Tensor) -> Tensor:
    return scores.gather(1, ids[:, None]).squeeze(1)
