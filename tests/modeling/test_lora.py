from __future__ import annotations

import pytest

from cogcalib.modeling import lora_config
from cogcalib.modeling.lora import check_targets
from cogcalib.modeling.model_spec import model_without_weights


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


def test_every_name_of_modules_to_adapt_must_be_one():
    """PEFT would adapt the others and say nothing."""
    bare = model_without_weights("atlas")
    for targets in ("all-linear", ["q_proj", "v_proj"], ["layers.0.mlp.up_proj"]):
        check_targets(bare, targets)
    with pytest.raises(
        ValueError, match=r"such as down_proj, .*; got v_prj, proj; did you mean 'v_proj'"
    ):
        check_targets(bare, ["q_proj", "v_prj", "proj"])
