"""The output layer of a language model, computed and differentiated one tile of rows at a time.

Half-precision matrix products keep their inputs' dtype; what they are summed up in, and everything
elementwise, is fp32. On CUDA the products accumulate into fp32 through cuBLAS' ``out_dtype``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

HALVES = (torch.float16, torch.bfloat16)

# Width of the slices in which a CPU projects a tile, so that the weight's slice stays in its cache:
# of 96 to 2048 the best or nearly so at 64 to 256 rows and widths of 512 to 2048.
_CPU_COLUMNS = 768


@dataclass(frozen=True, slots=True)
class LinearHead:
    """How hidden states become logits: ``z = cap(scale * (h W^T + u A^T + b))``.

    ``cap(x) = softcap * tanh(x / softcap)``, or x without softcap. Gradients flow to every tensor
    given here that requires them; a weight that is also the embedding gets the sum of both.

    Attributes:
        weight: W, ``[V, H]``.
        bias: b, ``[V]``.
        scale: Factor on the logits (Cohere, Granite, Falcon-H1, HyperCLOVA X).
        softcap: Bound on the logits' magnitude (Gemma-2).
        low_rank_input: u, ``[N, r]``: of a LoRA on the head ``scaling * dropout(h) A_lora^T``, made
            by autograd outside.
        low_rank_weight: A, ``[V, r]``: that LoRA's B.

    Raises:
        ValueError: If shapes do not fit, the softcap is not positive, or half a LoRA is given.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None
    low_rank_input: Tensor | None = None
    low_rank_weight: Tensor | None = None

    def __post_init__(self) -> None:
        if self.weight.ndim != 2:
            raise ValueError(f"head.weight must be [V, H], got shape {tuple(self.weight.shape)}")
        vocabulary = len(self.weight)
        if self.bias is not None and self.bias.shape != (vocabulary,):
            raise ValueError(
                f"head.bias must be [V] with V={vocabulary}, got shape {tuple(self.bias.shape)}"
            )
        if self.softcap is not None and not 0 < self.softcap < float("inf"):
            raise ValueError(
                f"head.softcap must be None or a finite number > 0, got {self.softcap}"
            )
        u, a = self.low_rank_input, self.low_rank_weight
        if (u is None) != (a is None):
            raise ValueError("head.low_rank_input and head.low_rank_weight come together or not")
        if u is None or a is None:
            return
        if u.ndim != 2 or a.shape != (vocabulary, u.shape[1]):
            raise ValueError(
                f"head.low_rank_input must be [N, r] and low_rank_weight [V, r] with "
                f"V={vocabulary}, got shapes {tuple(u.shape)} and {tuple(a.shape)}"
            )

    @property
    def parameters(self) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """weight, bias, low_rank_input, low_rank_weight: what may take a gradient."""
        return self.weight, self.bias, self.low_rank_input, self.low_rank_weight


class Projection:
    """A head applied to N hidden states, slice by slice; no gradient is recorded.

    The products run in autocast's dtype where it is on, otherwise in the dtype that hidden states
    and weight promote to.

    Attributes:
        dtype: Of logits and statistics: fp32 for half-precision products, else theirs.
    """

    def __init__(self, hidden: Tensor, head: LinearHead) -> None:
        device = hidden.device.type
        if torch.is_autocast_enabled(device):
            product = torch.get_autocast_dtype(device)
        else:
            product = torch.promote_types(hidden.dtype, head.weight.dtype)
        self.product_dtype = product
        self.dtype = torch.float32 if product in HALVES else product
        self.scale, self.softcap = head.scale, head.softcap
        self.hidden = hidden.detach().to(product)
        self.weight = head.weight.detach().to(product)
        self.bias = None if head.bias is None else head.bias.detach().to(self.dtype)
        u, a = head.low_rank_input, head.low_rank_weight
        self.low_rank_input = None if u is None else u.detach().to(product)
        self.low_rank_weight = None if a is None else a.detach().to(product)
        self.vocabulary = len(self.weight)

    def logits_into(self, tile: Tensor, rows: slice) -> None:
        """Write the logits of some rows into `tile`, ``[len(rows), V]`` of `dtype`."""
        for columns in self._column_slices():
            part = tile[:, columns]
            product_into(part, self.hidden[rows], self.weight[columns].t())
            if self.low_rank_input is not None and self.low_rank_weight is not None:
                a = self.low_rank_weight[columns]
                accumulate_product(part, self.low_rank_input[rows], a.t())
            if self.bias is not None:
                part.add_(self.bias[columns])
            if self.softcap is not None:
                part.mul_(self.scale / self.softcap).tanh_().mul_(self.softcap)
            elif self.scale != 1:
                part.mul_(self.scale)

    @cached_property
    def means(self) -> tuple[Tensor, Tensor | None]:
        """Mean over the vocabulary of the weight, ``[H]``, and of the low-rank weight, ``[r]``."""
        a = self.low_rank_weight
        return self.weight.mean(0, dtype=self.dtype), (
            None if a is None else a.mean(0, dtype=self.dtype)
        )

    def mean_logits(self, rows: Tensor) -> Tensor:
        """The mean over the vocabulary of some rows' logits, ``[n]``, in O(n H).

        Linear in the hidden state as long as nothing caps: ``scale * (h . mean(W) + mean(b))``.
        """
        weight, low_rank = self.means
        found = self.hidden[rows].to(self.dtype) @ weight
        if self.low_rank_input is not None and low_rank is not None:
            found += self.low_rank_input[rows].to(self.dtype) @ low_rank
        if self.bias is not None:
            found += self.bias.mean()
        return found * self.scale

    def cap_slope(self, logits: Tensor) -> Tensor | None:
        """``d cap(x) / dx`` where ``cap(x)`` is `logits`; None: 1."""
        return None if self.softcap is None else cap_slope(logits, self.softcap)

    def _column_slices(self) -> Iterator[slice]:
        on_cpu = self.weight.device.type == "cpu"
        width = _CPU_COLUMNS if on_cpu else max(1, self.vocabulary)
        for start in range(0, self.vocabulary, width):
            yield slice(start, min(start + width, self.vocabulary))


class HeadGradients:
    """Sums up ``G^T H`` and ``G W`` over tiles, G the gradient with respect to ``logits / scale``.

    Only what is needed is computed, and nothing is allocated for the rest. The sums are in the
    dtype of `Projection.dtype`.

    Args:
        projection: What is differentiated.
        needed: Whether hidden, weight, bias, low_rank_input and low_rank_weight take a gradient.
    """

    def __init__(self, projection: Projection, needed: tuple[bool, ...]) -> None:
        self._of = projection

        def buffer(like: Tensor | None, wanted: bool, zero: bool) -> Tensor | None:
            if like is None or not wanted:
                return None
            make = torch.zeros_like if zero else torch.empty_like
            return make(like, dtype=projection.dtype, memory_format=torch.contiguous_format)

        empty = len(projection.hidden) == 0
        self.hidden = buffer(projection.hidden, needed[0], empty)
        self.weight = buffer(projection.weight, needed[1], empty)
        self.bias = buffer(projection.bias, needed[2], True)
        self.low_rank_input = buffer(projection.low_rank_input, needed[3], empty)
        self.low_rank_weight = buffer(projection.low_rank_weight, needed[4], True)
        self._beta = 0.0  # the first tile overwrites the weight's buffer

    def add_tile(self, rows: slice, gradient: Tensor, again: bool = False) -> None:
        """Add a tile of G, ``[len(rows), V]``.

        Args:
            rows: Which rows of G.
            gradient: The tile.
            again: Whether these rows have come before. Every row must come once with False.
        """
        of = self._of
        if self.bias is not None:
            self.bias += gradient.sum(0)
        # Rounded to the products' dtype once. On a CPU the sums over tiles stay in fp32 throughout.
        rounded = gradient.to(of.product_dtype)
        summand = gradient if gradient.device.type == "cpu" else rounded
        into = _add_product if again else product_into
        if self.hidden is not None:
            into(self.hidden[rows], rounded, of.weight)
        if self.weight is not None:
            accumulate_product(self.weight, summand.t(), of.hidden[rows], self._beta)
            self._beta = 1.0
        if of.low_rank_input is not None and of.low_rank_weight is not None:
            if self.low_rank_input is not None:
                into(self.low_rank_input[rows], rounded, of.low_rank_weight)
            if self.low_rank_weight is not None:
                accumulate_product(self.low_rank_weight, summand.t(), of.low_rank_input[rows])

    def add_entries(self, rows: Tensor, columns: Tensor, values: Tensor) -> None:
        """Add single entries of G: ``G[rows[i], columns[i, k]] += values[i, k]``.

        Args:
            rows: Distinct rows, ``[n]``.
            columns: ``[n, K]``.
            values: ``[n, K]``.
        """
        of = self._of
        if self.bias is not None:
            self.bias.index_add_(0, columns.flatten(), values.flatten())
        for column, value in zip(columns.unbind(1), values.unbind(1), strict=True):
            for left, right, left_sum, right_sum in (
                (of.hidden, of.weight, self.hidden, self.weight),
                (of.low_rank_input, of.low_rank_weight, self.low_rank_input, self.low_rank_weight),
            ):
                if left_sum is not None and right is not None:
                    left_sum.index_add_(0, rows, right[column].to(value) * value[:, None])
                if right_sum is not None and left is not None:
                    right_sum.index_add_(0, column, left[rows].to(value) * value[:, None])

    def add_uniform(self, rows: Tensor, values: Tensor) -> None:
        """Add ``values[i] / V`` to every entry of ``G[rows[i]]``, ``[n]``, in O(n H + V H)."""
        of, share = self._of, values / self._of.vocabulary
        weight_mean, low_rank_mean = of.means
        if self.bias is not None:
            self.bias += share.sum()
        for left, mean, left_sum, right_sum in (
            (of.hidden, weight_mean, self.hidden, self.weight),
            (of.low_rank_input, low_rank_mean, self.low_rank_input, self.low_rank_weight),
        ):
            if left_sum is not None and mean is not None:
                left_sum.index_add_(0, rows, torch.outer(values, mean))
            if right_sum is not None and left is not None:
                right_sum += share @ left[rows].to(share)

    @property
    def sums(self) -> tuple[Tensor | None, ...]:
        """hidden, weight, bias, low_rank_input, low_rank_weight; None where not needed."""
        return self.hidden, self.weight, self.bias, self.low_rank_input, self.low_rank_weight


def cap_slope(logits: Tensor, softcap: float) -> Tensor:
    """``d cap(x) / dx`` where ``cap(x)`` is `logits`."""
    return 1 - (logits / softcap).square()


def product_into(out: Tensor, left: Tensor, right: Tensor) -> None:
    """``out = left @ right``, where `out` may be wider than the factors' dtype."""
    if out.dtype == left.dtype:
        torch.mm(left, right, out=out)
    elif sums_wide(out.device, left.dtype):
        torch.mm(left, right, out_dtype=out.dtype, out=out)
    else:
        out.copy_(left @ right)


def accumulate_product(total: Tensor, left: Tensor, right: Tensor, beta: float = 1.0) -> None:
    """``total = beta * total + left @ right``, without rounding the product to a half first."""
    if left.dtype in HALVES and sums_wide(total.device, left.dtype):
        torch.addmm(total, left, right, beta=beta, out_dtype=total.dtype, out=total)
    else:
        total.addmm_(left.to(total), right.to(total), beta=beta)


def sums_wide(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the device gives products of halves in fp32, as they were summed up.

    Only CUDA has ``out_dtype``, and not every build for every card: it is tried once.
    """
    return device.type == "cuda" and _out_dtype_works(device, dtype)


@cache
def _out_dtype_works(device: torch.device, dtype: torch.dtype) -> bool:
    """Try ``out_dtype`` against products in fp32; warn if it fails or rounds."""
    drawn = torch.Generator().manual_seed(0)
    left, right = (
        torch.randn(shape, generator=drawn).to(dtype).to(device) for shape in ((16, 64), (64, 32))
    )
    # Not the device's own fp32 product: that may be one in TF32.
    expected = left.cpu().double() @ right.cpu().double()
    found = torch.empty(16, 32, dtype=torch.float32, device=device)
    twice = torch.empty_like(found)
    try:
        torch.mm(left, right, out_dtype=torch.float32, out=found)
        torch.addmm(found, left, right, beta=1.0, out_dtype=torch.float32, out=twice)
    except (RuntimeError, TypeError) as error:
        reason = str(error).partition("\n")[0]
    else:
        apart = max(
            (found.cpu() - expected).abs().max().item(),
            (twice.cpu() - 2 * expected).abs().max().item(),
        )
        if apart < 1e-4:  # of numbers up to 30, which a half rounds by 0.06 or more
            return True
        reason = f"its results are {apart:.2g} apart from those in float64"
    warnings.warn(
        f"torch.mm(out_dtype=) does not work on {device} for {dtype}: {reason}. Logits are rounded "
        "to that format, and gradients of the head are computed in float32, which takes longer",
        stacklevel=3,
    )
    return False


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    total.add_(left @ right)
