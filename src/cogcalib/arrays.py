"""Numbers as anybody has them -> numpy arrays: tensors of any type and device, masked arrays."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NUMPY_HAS = ("float16", "float32", "float64")


def as_array(name: str, values: Any) -> NDArray[Any]:
    """Values as a numpy array, in their own precision or, where numpy has none such, in float32.

    Args:
        name: What an error calls them.
        values: Arrays, lists, pandas Series; torch tensors too that numpy itself does not take:
            bfloat16 and float8 (exactly, as float32), on another device, sparse, or with a
            gradient; and lists of such.

    Raises:
        ValueError: If values are masked: nothing says what stands in their place; or of a tensor
            on the meta device, which has none.
    """
    torch = sys.modules.get("torch")  # not imported here: without it there are no tensors
    if torch is not None and isinstance(values, torch.Tensor):
        return _of_tensor(name, values)
    if isinstance(values, list | tuple):
        if torch is not None and any(isinstance(each, torch.Tensor) for each in values):
            return np.asarray([as_array(name, each) for each in values])
        if any(each is np.ma.masked for each in values):
            raise ValueError(_masked(name, sum(each is np.ma.masked for each in values)))
    if np.ma.is_masked(values):
        raise ValueError(_masked(name, int(np.ma.getmaskarray(values).sum())))
    return np.asarray(values)


def _of_tensor(name: str, values: Any) -> NDArray[Any]:
    if values.is_meta:
        raise ValueError(f"{name} must hold numbers, got a tensor on the meta device, without any")
    dense = values.detach().to_dense().cpu()
    if dense.is_floating_point() and str(dense.dtype).removeprefix("torch.") not in _NUMPY_HAS:
        dense = dense.float()
    return np.asarray(dense.resolve_neg())


def _masked(name: str, count: int) -> str:
    return f"{name} must have no masked values, got {count}; leave out their rows in every array"
