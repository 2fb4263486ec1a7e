"""One batch through the tiles: cross-entropy, gate, penalty, and the sums of the gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from cogcalib.losses.gates import Gate
from cogcalib.losses.objective import FusedParts, LossParts, NllReduction, example_nll
from cogcalib.losses.projection import HeadGradients, Projection
from cogcalib.losses.terms import NO_OPTION, Penalty, token_penalty
from cogcalib.losses.tiles import Tiles, tile_rows

_TILE_BYTES = {"cpu": 128 * 2**20, "cuda": 512 * 2**20}


@dataclass(frozen=True, slots=True)
class SupervisedBatch:
    """The supervised tokens of B examples, as `fused_cogcalib_loss` gets them."""

    targets: Tensor
    option_ids: Tensor | None
    example: Tensor
    n_examples: int


@dataclass(frozen=True, slots=True)
class Objective:
    """What is minimised over them, as `fused_cogcalib_loss` gets it."""

    penalty: Penalty
    alpha: float
    gate: Gate
    nll_reduction: NllReduction
    denominator: Tensor


class FusedPass:
    """One batch: its tiles, the gate, the sums. Everything in here is without graph.

    Args:
        projection: Where logits come from.
        batch: The tokens.
        objective: What is minimised.
        needed: Whether hidden, weight, bias, low_rank_input and low_rank_weight take a gradient.
        tile_bytes: Memory for a tile; None: the device's default.
        compiled: Whether `torch.compile` makes the kernels.
    """

    def __init__(
        self,
        projection: Projection,
        batch: SupervisedBatch,
        objective: Objective,
        needed: tuple[bool, ...],
        *,
        tile_bytes: int | None,
        compiled: bool,
    ) -> None:
        self._projection, self._batch, self._objective = projection, batch, objective
        self._rows = rows_of(projection, tile_bytes)
        tiles: type[Tiles] = Tiles
        if compiled:  # experimental: nobody else waits for its import
            from cogcalib.losses.compiled import CompiledTiles as tiles
        self._tiles = tiles(projection, batch.targets, batch.option_ids, self._rows)
        self._found = self._tiles.statistics
        self._nll = self._found.ce.new_zeros(batch.n_examples)
        self._weights = torch.zeros_like(self._nll)
        self.gradients = HeadGradients(projection, needed) if any(needed) else None
        self.denominator = objective.denominator

    def run(self) -> FusedParts:
        """The loss and its parts; `gradients` are complete afterwards, but for the denominator."""
        if self._objective.penalty.support == "options":
            self._any_tiles()
            self._penalise_options()
        else:
            self._aligned_tiles()
        found, of_token = self._found, self._tiles.penalty
        ce = found.ce.sum() / self.denominator
        penalty = (self._weights[self._batch.example] * of_token).sum() / self.denominator
        loss = ce + self._objective.alpha * penalty
        return FusedParts.of(
            LossParts(loss, ce, penalty, self._nll, self._weights), found, of_token
        )

    def _any_tiles(self, examples: slice | None = None, tokens: slice | None = None) -> None:
        """Cross-entropy of a run (None: of all), whatever rows share a tile; then the gate."""
        examples = slice(0, self._batch.n_examples) if examples is None else examples
        tokens = slice(0, len(self._batch.targets)) if tokens is None else tokens
        for span in spans(tokens, self._rows):
            self._finish(self._tiles.load(span), span, None)
        self._open_gate(examples, tokens)

    def _aligned_tiles(self) -> None:
        """Tiles of whole examples, so that the gate is known before a tile becomes the gradient."""
        kind, softcap = self._objective.penalty.kind, self._projection.softcap
        linear = kind == "label_smoothing" and softcap is None
        put_off = []
        counts = torch.bincount(self._batch.example, minlength=self._batch.n_examples)
        for examples, tokens in aligned_runs(counts.tolist(), self._rows):
            if tokens.stop - tokens.start > self._rows:
                if linear:
                    put_off.append(tokens)
                    self._any_tiles(examples, tokens)
                else:
                    self._long_example(examples, tokens)
                continue
            tile = self._tiles.load(tokens)
            weights = self._open_gate(examples, tokens)
            self._finish(tile, tokens, weights[self._batch.example[tokens] - examples.start])
        if put_off:
            self._penalise_linearly(put_off)

    def _long_example(self, examples: slice, tokens: slice) -> None:
        """One example in several tiles.

        Each tile is weighted as the gate answers to the NLL so far; where the whole NLL gets
        another answer, the difference is added with the tile computed once more. That is rare for a
        gate that opens or not. A gate that says something in between waits for the whole NLL.
        """
        answers: list[float | None] = []
        parts = list(spans(tokens, self._rows))
        for span in parts:
            tile = self._tiles.load(span)
            answer = self._open_gate(examples, tokens, span.stop)
            final = float(answer)
            answers.append(final if final in (0, 1) or span is parts[-1] else None)
            if answers[-1] is not None:
                self._finish(tile, span, answer)
        for span, answer_then in zip(parts, answers, strict=True):
            if answer_then is None:
                self._finish(self._tiles.load(span), span, answer)
            elif answer_then != final:
                self._finish(self._tiles.load(span), span, answer - answer_then, again=True)

    def _finish(
        self, tile: Tensor, span: slice, weights: Tensor | None, again: bool = False
    ) -> None:
        """Gradients of a tile just loaded; `again`: of its penalty alone, beside earlier ones."""
        if weights is not None:
            weights = weights.expand(len(tile)) if bool(weights.any()) else None
        if self.gradients is None and weights is None:
            return
        w = None if weights is None else self._objective.alpha * weights
        self._tiles.differentiate(tile, span, self._objective.penalty, w, with_ce=not again)
        if self.gradients is not None:
            self.gradients.add_tile(span, tile, again)

    def _open_gate(self, examples: slice, tokens: slice, upto: int | None = None) -> Tensor:
        """The gate's answer to the NLL of some examples, made of their tokens before `upto`."""
        seen = slice(tokens.start, tokens.stop if upto is None else upto)
        example = self._batch.example[seen] - examples.start
        n = examples.stop - examples.start
        reduction = self._objective.nll_reduction
        nll = example_nll(self._found.ce[seen], example, n, reduction)
        own = example_nll(-self._found.log_confidence[seen], example, n, reduction)
        if reduction == "sum" and seen.stop < tokens.stop:
            whole = (tokens.stop - tokens.start) / (seen.stop - seen.start)
            nll, own = nll * whole, own * whole
        weights = self._objective.gate.weights(nll, examples, own)
        self._nll[examples], self._weights[examples] = nll, weights
        return weights

    def _penalise_linearly(self, runs: list[slice]) -> None:
        """Label smoothing of long examples: without softcap R is linear in the hidden state."""
        targets = self._batch.targets
        rows = torch.cat([torch.arange(run.start, run.stop, device=targets.device) for run in runs])
        weights = self._weights[self._batch.example[rows]]
        if not bool(weights.any()):
            return
        mean_logits = self._projection.mean_logits(rows)
        self._tiles.penalty[rows] = self._found.target_logit[rows] - mean_logits
        if self.gradients is not None:
            w = self._objective.alpha * weights
            self.gradients.add_entries(rows, targets[rows, None], w[:, None])
            self.gradients.add_uniform(rows, -w)

    def _penalise_options(self) -> None:
        """The reference's penalty over the K logits of the options and the target's."""
        ids, scores = self._batch.option_ids, self._found.option_scores
        if ids is None or scores is None:
            return
        competing = (ids != NO_OPTION).any(1).nonzero().squeeze(1)
        ids, gold = ids[competing], self._batch.targets[competing, None]
        absent = ids == NO_OPTION
        logits = torch.cat(
            [scores[competing].masked_fill(absent, 0), self._found.target_logit[competing, None]], 1
        )
        # A vocabulary of its own: columns 0 ... K-1 are the options, column K is the target.
        width = ids.shape[1]
        places = torch.arange(width, device=ids.device).expand_as(ids)
        places = places.masked_fill(absent, NO_OPTION)
        with torch.enable_grad():
            logits.requires_grad_()
            target = torch.full_like(gold.squeeze(1), width)
            values = token_penalty(self._objective.penalty, logits, target, places)
            (slopes,) = torch.autograd.grad(values.sum(), logits)
        logits = logits.detach()
        self._tiles.penalty[competing] = values.detach()
        if self.gradients is not None:
            w = self._objective.alpha * self._weights[self._batch.example[competing]]
            slopes = slopes * w[:, None]
            cap = self._projection.cap_slope(logits)
            slopes = slopes if cap is None else slopes * cap
            columns = torch.cat([ids.clamp(min=0), gold], 1)
            self.gradients.add_entries(competing, columns, slopes)


def aligned_runs(counts: list[int], rows: int) -> Iterator[tuple[slice, slice]]:
    """Cut a batch into runs of consecutive examples with at most `rows` tokens together.

    An example with more tokens is a run by itself.

    Args:
        counts: Tokens of each example.
        rows: The most tokens of a run.

    Yields:
        The examples of a run, and its tokens.
    """
    first = token = size = 0
    for index, count in enumerate(counts):
        if index > first and size + count > rows:
            yield slice(first, index), slice(token, token + size)
            first, token, size = index, token + size, 0
        size += count
    if counts:
        yield slice(first, len(counts)), slice(token, token + size)


def spans(tokens: slice, rows: int) -> Iterator[slice]:
    """Cut `tokens` into slices of at most `rows`."""
    for start in range(tokens.start, tokens.stop, rows):
        yield slice(start, min(start + rows, tokens.stop))


def rows_of(projection: Projection, tile_bytes: int | None) -> int:
    """Tokens per tile, from a budget or the device's default."""
    device = projection.hidden.device.type
    budget = _TILE_BYTES.get(device, _TILE_BYTES["cpu"]) if tile_bytes is None else tile_bytes
    return tile_rows(budget, projection.vocabulary, projection.dtype)
