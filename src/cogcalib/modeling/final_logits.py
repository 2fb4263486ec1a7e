"""The scale and the softcap between a head and its logits, by the names of configurations."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PretrainedConfig

MULTIPLIERS = ("logit_scale", "output_multiplier", "lm_head_multiplier")
"""Configuration names of a factor on the logits: Cohere, Muse Glimmer, Falcon-H1."""

SOFTCAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
"""Configuration names of a softcap on the logits: Gemma, RecurrentGemma, xLSTM."""


def logit_scale_and_softcap(config: PretrainedConfig) -> tuple[float, float | None]:
    """What a model of this configuration does to its logits: ``cap(scale * logits)``.

    Names known to transformers, as TRL reads them; whether they are all is for the caller to
    verify on the model's own logits.
    """
    config = config.get_text_config()
    scale = first_number(config, MULTIPLIERS)
    divisor = first_number(config, ("logits_scaling",))  # Granite, MiniCPM3
    if scale is None and divisor is not None:
        scale = divisor if config.model_type == "hyperclovax" else 1 / divisor
    return 1.0 if scale is None else scale, first_number(config, SOFTCAPS)


def first_number(config: PretrainedConfig, names: Sequence[str]) -> float | None:
    """The first of these configuration keys that holds a number; None without one."""
    for name in names:
        value = getattr(config, name, None)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return None
