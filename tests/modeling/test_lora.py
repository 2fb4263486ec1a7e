from __future__ import annotations

import pytest

from cogcalib.modeling import lora_config


def test_lora_config_carries_what_was_asked():
    config = lora_config(8, 16, 0.1, ["q_proj", "v_proj"])
    assert (config.r, config.lora_alpha, config.lora_dropout) == (8, 16, 0.1)
    assert config.target_modules == {"q_proj", "v_proj"}
    assert config.task_type == "CAUSAL_LM"
    assert lora_config(8, 16).target_modules == "all-linear"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 16, 0.0), "rank must be at least 1, got 0"),
        ((8, 0, 0.0), "alpha must be at least 1, got 0"),
        ((8, 16, 1.0), r"dropout must be in \[0, 1\), got 1.0"),
        ((8, 16, -0.1), "dropout must be in"),
    ],
)
def test_lora_config_refuses_numbers_out_of_range(values, message):
    with pytest.raises(ValueError, match=message):
        lora_config(*values)
