"""One tile of logits: from logits to log-probabilities, statistics and, in place, the gradient.

A tile holds the logits of some tokens. Work on its elements goes row block by row block, so that on
a CPU the several steps find the block in the cache. On CUDA a block is the tile, and the same steps
run eagerly, kernel after kernel; how fast has not been measured yet.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from cogcalib.losses.head import Projection
from cogcalib.losses.statistics import TokenStatistics
from cogcalib.losses.terms import NO_OPTION, Penalty, focal, focal_slope

_CPU_BLOCK_BYTES = 2**20
_CHUNK = 256


class Tiles:
    """The tiles of a batch of tokens, one after the other in one buffer.

    Call `load` for some rows, then `finish` for the same rows; each fills in its statistics.

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
        self._scratch = [like.new_empty(self._block, vocabulary)]
        self.penalty = like.new_zeros(n)
        self.statistics = TokenStatistics(
            ce=like.new_zeros(n),
            entropy=like.new_zeros(n),
            right=torch.zeros_like(targets, dtype=torch.bool),
            target_logit=like.new_zeros(n),
            log_confidence=like.new_zeros(n),
            option_scores=None if option_ids is None else like.new_zeros(option_ids.shape),
        )

    def load(self, rows: slice) -> Tensor:
        """Compute ``log p`` of some rows into the buffer; ce, right and the logits become known.

        Returns:
            The tile, ``[len(rows), V]``, valid until the next call.
        """
        tile = self._tile[: rows.stop - rows.start]
        self.projection.logits_into(tile, rows)
        found = self.statistics
        for block, at in self._blocks(rows):
            logits, targets = tile[block], self.targets[at]
            best = first_maximum(logits)
            found.right[at] = best == targets
            found.target_logit[at] = _pick(logits, targets)
            if self.option_ids is not None and found.option_scores is not None:
                ids = self.option_ids[at]
                scores = logits.gather(1, ids.clamp(min=0))
                found.option_scores[at] = scores.masked_fill(ids == NO_OPTION, -torch.inf)
            copy = self._scratch_rows(0, len(logits)).copy_(logits)
            torch.log_softmax(copy, 1, out=logits)
            found.ce[at] = -_pick(logits, targets)
            found.log_confidence[at] = _pick(logits, best)
        return tile

    def finish(self, tile: Tensor, rows: slice) -> None:
        """Entropy of rows just loaded, where no gradient is wanted."""
        for block, at in self._blocks(rows):
            self._probabilities(tile[block], at)

    def differentiate(
        self,
        tile: Tensor,
        rows: slice,
        penalty: Penalty,
        weights: Tensor | None,
        with_ce: bool = True,
    ) -> None:
        """Turn rows just loaded into ``d (CE + w R) / d logits`` before the softcap, in place.

        Fills in the entropy and, with weights, R.

        Args:
            tile: What `load` returned.
            rows: The rows it was given.
            penalty: R over the vocabulary.
            weights: w of each row, ``[len(rows)]``; None: 0.
            with_ce: False: only ``d (w R) / d logits``.
        """
        for block, at in self._blocks(rows):
            log_p = tile[block]
            slope = self._slope(log_p, at)
            p = self._probabilities(log_p, at)
            if weights is None:
                log_p.zero_()
            else:
                self._penalise(penalty, log_p, p, at, weights[block, None])
            if with_ce:
                log_p.add_(p)
                log_p.scatter_add_(1, self.targets[at, None], log_p.new_full((len(log_p), 1), -1.0))
            if slope is not None:
                log_p.mul_(slope)

    def _probabilities(self, log_p: Tensor, at: slice) -> Tensor:
        # Faster than exp on a CPU, and the sum is 1 to the last bit.
        p = torch.softmax(log_p, 1, out=self._scratch_rows(0, len(log_p)))
        self.statistics.entropy[at] = -torch.linalg.vecdot(p, log_p)
        return p

    def _penalise(self, penalty: Penalty, log_p: Tensor, p: Tensor, at: slice, w: Tensor) -> None:
        """From ``log p`` to ``w dR/dz`` in place; R goes where it is collected."""
        # The normaliser cancels in every R: log p serves as well as the logits.
        if penalty.kind == "entropy":
            entropy = self.statistics.entropy[at]
            self.penalty[at] = -entropy
            if penalty.entropy_floor is not None:
                self.penalty[at] = torch.relu(penalty.entropy_floor - entropy)
                w = w * (entropy < penalty.entropy_floor)[:, None]
            # dR/dz_v = p_v (log p_v + H)
            log_p.add_(entropy[:, None]).mul_(w).mul_(p)
        elif penalty.kind == "label_smoothing":
            # dR/dz_v = 1[v = y] - 1/V
            targets = self.targets[at, None]
            self.penalty[at] = log_p.gather(1, targets).squeeze(1) - log_p.mean(1)
            log_p.copy_(w / -log_p.shape[1]).scatter_add_(1, targets, w)
        elif penalty.kind == "focal":
            # dR/dz_v = dR/dCE (p_v - 1[v = y])
            ce = self.statistics.ce[at]
            self.penalty[at] = focal(ce, penalty.gamma)
            w = w * focal_slope(ce, penalty.gamma)[:, None]
            torch.mul(p, w, out=log_p).scatter_add_(1, self.targets[at, None], -w)
        else:
            self._penalise_margin(penalty, log_p, at, w)

    def _penalise_margin(self, penalty: Penalty, log_p: Tensor, at: slice, w: Tensor) -> None:
        """``dR/dz_v = -1[gap_v > m] + count(gap > m) 1[gap_v = 0] / count(gap = 0)``, gaps to the
        largest logit: equal maxima share its gradient evenly, as `torch.amax` does."""
        vocabulary = log_p.shape[1]
        size = vocabulary if penalty.margin_reduction == "mean" else 1
        gap = torch.sub(log_p.amax(1, keepdim=True), log_p, out=log_p)
        below = torch.sign(gap, out=self._scratch_rows(1, len(log_p)))
        ties = vocabulary - below.sum(1, keepdim=True)
        gap.sub_(penalty.margin).clamp_(min=0)
        self.penalty[at] = gap.sum(1) / size
        active = gap.sign_()
        share = active.sum(1, keepdim=True) / ties
        # below - 1 is -1 at the maxima and exactly 0 elsewhere
        active.addcmul_(below.sub_(1), share).mul_(w / -size)

    def _slope(self, log_p: Tensor, at: slice) -> Tensor | None:
        cap = self.projection.softcap
        if cap is None:
            return None
        found = self.statistics
        log_normaliser = found.target_logit[at] + found.ce[at]
        slope = self._scratch_rows(2, len(log_p))
        torch.add(log_p, log_normaliser[:, None], out=slope)
        return slope.div_(cap).square_().neg_().add_(1)

    def _scratch_rows(self, index: int, rows: int) -> Tensor:
        while len(self._scratch) <= index:
            self._scratch.append(torch.empty_like(self._scratch[0]))
        return self._scratch[index][:rows]

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


def first_maximum(scores: Tensor) -> Tensor:
    """``scores.argmax(1)``, the first of equals, in two levels.

    On a CPU torch finds the largest value of a row about 20 times as fast as its position.
    """
    length = scores.shape[1] // _CHUNK * _CHUNK
    if length == 0:
        return scores.argmax(1)
    largest = scores[:, :length].unflatten(1, (-1, _CHUNK)).amax(2)
    if length < scores.shape[1]:
        largest = torch.cat([largest, scores[:, length:].amax(1, keepdim=True)], 1)
    start = largest.argmax(1, keepdim=True) * _CHUNK
    positions = start + torch.arange(_CHUNK, device=scores.device)
    chunk = scores.gather(1, positions.clamp(max=scores.shape[1] - 1))
    return (start + chunk.argmax(1, keepdim=True)).squeeze(1)


def _pick(scores: Tensor, ids: Tensor) -> Tensor:
    return scores.gather(1, ids[:, None]).squeeze(1)
