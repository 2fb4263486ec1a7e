"""What the benchmarks compare with and the project does not install."""

from __future__ import annotations

import importlib

LIGER, CCE, LM_EVAL = "liger", "cce", "lm_eval"
PEERS = {
    LIGER: ("liger_kernel.transformers", "liger-kernel"),
    CCE: ("cut_cross_entropy", "cut-cross-entropy"),
    LM_EVAL: ("lm_eval.models.huggingface", "lm-eval==0.4.13"),
}
"""Module that is imported, and what pip installs it from."""
ON_CUDA_ONLY = (LIGER, CCE)


def not_importable(*names: str) -> dict[str, str]:
    """Which of the peers do not import, and why; a package may be there and its Triton not."""
    found = {}
    for name in names:
        module, requirement = PEERS[name]
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever it is, the peer cannot take part
            said = f"{type(error).__name__}: {error}"
            found[name] = f"{module} does not import (pip install {requirement}): {said}"
    return found


def absent(device: str) -> dict[str, str]:
    """Which of the losses cannot take part in `loss.py`, and why."""
    if device != "cuda":
        return dict.fromkeys(ON_CUDA_ONLY, "runs on CUDA only")
    return not_importable(*ON_CUDA_ONLY)
