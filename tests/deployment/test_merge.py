"""A merged model answers as the adapter with its map did, and nothing half-written is left."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapters_at_hand import (
    OPTIONS,
    calibration_of,
    save_adapter,
    save_calibrated_adapter,
    save_model,
    temperature,
)
from peft import IA3Config, LoraConfig, PromptTuningConfig
from safetensors.torch import load_file
from tiny_models import CITIES, build_tokenizer

from cogcalib.deployment import merging
from cogcalib.deployment.calibration_file import (
    AbstentionRule,
    AnswerFormat,
    FittedMap,
    ReliabilityBins,
    SplitMetrics,
    read_calibration,
    write_calibration,
)
from cogcalib.deployment.merge_plan import plan_merge, stored_dtype
from cogcalib.deployment.merging import Merged, MergeError, merge
from cogcalib.deployment.predictor import load
from cogcalib.modeling.model_files import fingerprint
from cogcalib.records import InputError

INPUTS = [f"Question: In which country is {city}?\nAnswer:" for city in CITIES]
RULE = AbstentionRule(0.2, 0.1, 0.5, 300, 0.6, (0.5, 0.7), 0.1, "h.jsonl", "cd")
GEMMA2 = {"head_dim": 8, "final_logit_softcapping": 3.0}


def merged(source: Path, out: Path, **how: Any) -> Merged:
    return merge(plan_merge(source, out, **how))


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_answers_alike(first: Path, second: Path, tolerance: float, **how: Any) -> None:
    """The same answers, confidences, alternatives and abstentions."""
    ours, theirs = (load(folder, **how).predict(INPUTS) for folder in (first, second))
    for one, other in zip(ours, theirs, strict=True):
        assert (one.answer, one.abstain) == (other.answer, other.abstain)
        assert one.confidence == pytest.approx(other.confidence, abs=tolerance)
        shares = [{a.answer: a.probability for a in each.alternatives} for each in (one, other)]
        assert shares[0] == pytest.approx(shares[1], abs=tolerance)
    assert len({round(each.confidence, 3) for each in ours}) > 3


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("Llama", {}),
        ("Llama", {"tie_word_embeddings": True}),
        ("Mistral", {}),
        ("Qwen2", {"tie_word_embeddings": True}),
        ("Gemma2", GEMMA2),
        ("Gemma3", {"config_class": "Gemma3TextConfig", "head_dim": 8}),
        ("GPTNeoX", {}),
        ("Cohere", {"logit_scale": 0.4}),
    ],
)
def test_it_answers_as_the_adapter_with_its_map(
    name: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    base = save_model(tmp_path / "base", name, **fields)
    lora = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear")
    adapter = save_calibrated_adapter(tmp_path / "adapter", base, temperature(1.7), lora)
    write_calibration(adapter, replace(read_calibration(adapter), rules=(RULE,)))
    done = merged(adapter, tmp_path / "out")
    assert done.folded is not None
    assert done.difference < 1e-4
    assert_answers_alike(adapter, tmp_path / "out", 1e-4)
    written = read_calibration(tmp_path / "out")
    assert written.map is None
    assert written.folded_temperature == 1.7
    assert written.rules == (RULE,)
    assert written.model.name == "out"
    assert written.model.sha256 == fingerprint(tmp_path / "out")["sha256"]
    unmapped = load(tmp_path / "out").predict(INPUTS)
    assert all(each.raw_confidence == each.confidence for each in unmapped)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "lm_head"]),
        LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "embed_tokens"]),
        LoraConfig(
            task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], modules_to_save=["lm_head"]
        ),
        LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], use_dora=True),
        IA3Config(task_type="CAUSAL_LM"),
    ],
    ids=["head", "embeddings", "whole head", "dora", "ia3"],
)
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.filterwarnings("ignore:.*lm_head.*:UserWarning")
def test_adapters_of_all_kinds_on_tied_and_untied_heads(
    config: Any, tied: bool, tmp_path: Path
) -> None:
    base = save_model(tmp_path / "base", tie_word_embeddings=tied)
    adapter = save_calibrated_adapter(tmp_path / "adapter", base, temperature(0.6), config)
    merged(adapter, tmp_path / "out")
    assert_answers_alike(adapter, tmp_path / "out", 1e-4)


@pytest.mark.filterwarnings("ignore:dtype auto")
def test_the_shipped_model_in_the_format_it_is_stored_in(tmp_path: Path) -> None:
    """float16, and a whole model: there is nothing but the temperature."""
    from cogcalib.modeling import resolve_model

    base = Path(resolve_model("atlas"))
    source = tmp_path / "atlas"
    source.mkdir()
    for file in base.iterdir():
        (source / file.name).write_bytes(file.read_bytes())
    write_calibration(source, calibration_of(source, temperature(1.7)))
    plan = plan_merge(source, tmp_path / "out")
    assert plan.dtype == "float16"
    assert plan.weights == pytest.approx((base / "model.safetensors").stat().st_size, rel=0.02)
    done = merge(plan)
    assert done.difference < 0.02
    assert_answers_alike(source, tmp_path / "out", 1e-4)  # read in float32
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert {str(each.dtype) for name, each in weights.items() if "norm" not in name} == {
        "torch.float16"
    }
    assert merged(source, tmp_path / "wide", dtype="float32").difference < 1e-5


@pytest.mark.parametrize(
    ("fitted", "keep"),
    [
        (None, False),
        (temperature(1.7), True),
        (FittedMap("platt", {"slope": 0.7, "intercept": 0.1}, 300, "c.jsonl", "ab"), False),
        (
            FittedMap(
                "vector",
                {"weight": [1.0, 0.9, 1.1, 1.2], "bias": [0.0, 0.1, -0.1, 0.0], "at_bound": False},
                300,
                "c.jsonl",
                "ab",
            ),
            False,
        ),
    ],
    ids=["none", "kept", "platt", "vector"],
)
def test_maps_that_do_not_go_into_weights_stay_maps(
    fitted: FittedMap | None, keep: bool, tmp_path: Path
) -> None:
    base = save_model(tmp_path / "base")
    adapter = save_calibrated_adapter(tmp_path / "adapter", base, fitted)
    done = merged(adapter, tmp_path / "out", keep_temperature=keep)
    assert done.folded is None
    written = read_calibration(tmp_path / "out")
    assert written.map == fitted
    assert written.folded_temperature is None
    assert_answers_alike(adapter, tmp_path / "out", 1e-4)


def test_two_temperatures_in_weights_are_their_product(tmp_path: Path) -> None:
    base = save_model(tmp_path / "base")
    adapter = save_calibrated_adapter(tmp_path / "adapter", base, temperature(1.5))
    merged(adapter, tmp_path / "first")
    first = read_calibration(tmp_path / "first")
    write_calibration(tmp_path / "first", replace(first, map=temperature(1.2)))
    merged(tmp_path / "first", tmp_path / "second")
    assert read_calibration(tmp_path / "second").folded_temperature == pytest.approx(1.8)
    assert_answers_alike(tmp_path / "first", tmp_path / "second", 1e-4)


def test_metrics_behind_the_map_become_the_models_own(tmp_path: Path) -> None:
    raw, calibrated = ({"ece": {"value": v, "low": 0.0, "high": 0.3}} for v in (0.2, 0.05))
    bins = [ReliabilityBins((v,), (0.5,), (0.5,)) for v in (3, 4)]
    both = SplitMetrics("calibration", 300, "ab", raw, calibrated, *bins)
    own = SplitMetrics("held-out", 300, "cd", raw)
    base = save_model(tmp_path / "base")
    before = calibration_of(base, temperature(1.7), metrics=(both, own))
    after = merging.merged_calibration(before, before.model, 1.7, exact=True)
    assert after.metrics == (
        SplitMetrics("calibration", 300, "ab", calibrated, {}, bins[1], None),
        own,
    )


def test_a_promise_goes_where_rounding_changes_confidences(tmp_path: Path) -> None:
    base = save_model(tmp_path / "base")
    rule = AbstentionRule(0.05, 0.1, 0.9, 200, 0.5, (0.4, 0.6), 0.01, "h.jsonl", "01")
    before = calibration_of(base, temperature(1.7), rules=(rule,))
    same = merging.merged_calibration(before, before.model, 1.7, exact=True)
    rounded = merging.merged_calibration(before, before.model, 1.7, exact=False)
    assert (same.rules, rounded.rules) == ((rule,), ())


def test_what_lies_beside_it_comes_along_and_names_no_code_or_path(tmp_path: Path) -> None:
    base = save_model(tmp_path / "base")
    for name in ("config.json", "tokenizer_config.json"):
        content = json.loads((base / name).read_text())
        content["auto_map"] = {"AutoConfig": "somebody/model--code.Config"}
        (base / name).write_text(json.dumps(content))
    (base / "tokenizer.model").write_bytes(b"pieces")
    adapter = save_calibrated_adapter(tmp_path / "adapter", base, temperature(1.7))
    (adapter / "trained_on.txt").write_text("0123456789abcdef\n")
    (adapter / "calibrated_on.txt").write_text("fedcba9876543210\n")
    out = tmp_path / "deep" / "er" / "out"
    merged(adapter, out)
    assert (out / "trained_on.txt").read_text() == "0123456789abcdef\n"
    assert (out / "calibrated_on.txt").read_text() == "fedcba9876543210\n"
    assert (out / "tokenizer.model").read_bytes() == b"pieces"
    assert left(out.parent) == ["out"]
    assert out.stat().st_mode & 0o777 == 0o755
    for path in out.glob("*.json"):
        assert str(tmp_path) not in path.read_text()
        assert "auto_map" not in path.read_text()
    assert not [path for path in out.iterdir() if path.suffix in (".bin", ".py", ".pt")]


def test_options_of_several_tokens_are_refused(tmp_path: Path) -> None:
    """A temperature of the vocabulary has a normaliser at each token: it is another map."""
    base = save_model(tmp_path / "base")
    adapter = save_adapter(base, tmp_path / "adapter")
    texts = AnswerFormat("options", "options", options=(" Burkina Faso", " Costa Rica"))
    unknown = AnswerFormat("options", "options")
    preset = AnswerFormat("options", "options", preset="cogcalib")
    of = temperature(1.7)
    for answers, fitted, said in [
        (texts, of, "fitted over options of several tokens"),
        (unknown, of, "is not known"),
        (preset, replace(of, one_token=False), "fitted over options of several tokens"),
    ]:
        write_calibration(adapter, calibration_of(base, fitted, adapter=adapter, answers=answers))
        with pytest.raises(InputError, match=said):
            plan_merge(adapter, tmp_path / "out")
        assert plan_merge(adapter, tmp_path / "out", keep_temperature=True).temperature is None
    for answers, fitted in [(preset, of), (unknown, replace(of, one_token=True))]:
        write_calibration(adapter, calibration_of(base, fitted, adapter=adapter, answers=answers))
        assert plan_merge(adapter, tmp_path / "out").temperature == 1.7


def test_options_of_several_tokens_would_be_wrong(tmp_path: Path) -> None:
    """What is refused is refused for a reason: folded all the same, it answers otherwise."""
    base = save_model(tmp_path / "base")
    answers = AnswerFormat("options", "options", options=(" Burkina Faso", " Costa Rica"))
    write_calibration(base, calibration_of(base, replace(temperature(1.7)), answers=answers))
    plan = plan_merge(base, tmp_path / "out", keep_temperature=True)
    merge(replace(plan, temperature=1.7))
    ours, theirs = (load(each).predict(INPUTS) for each in (base, tmp_path / "out"))
    apart = [abs(a.confidence - b.confidence) for a, b in zip(ours, theirs, strict=True)]
    assert np.max(apart) > 1e-3


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return save_calibrated_adapter(
        tmp_path / "adapter", save_model(tmp_path / "base"), temperature(1.7)
    )


def test_bad_input_is_refused_before_anything_is_read(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_weights(*_: Any, **__: Any) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(merging, "load_model", no_weights)
    out = tmp_path / "out"
    (tmp_path / "taken").mkdir()
    other = save_model(tmp_path / "other", hidden_size=16)
    same_shape = save_model(tmp_path / "same", rms_norm_eps=1e-3)
    bare = save_adapter(tmp_path / "base", tmp_path / "bare")
    prompts = save_calibrated_adapter(
        tmp_path / "prompts",
        tmp_path / "base",
        None,
        PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    )
    for source, target, how, said in [
        (adapter, tmp_path / "taken", {}, "taken already exists"),
        (tmp_path / "absent", out, {}, "absent does not exist"),
        (bare, out, {}, "bare has no calibration.json"),
        (adapter, out, {"base": str(other)}, "was made with another model"),
        (adapter, out, {"base": str(same_shape)}, "was made with another model"),
        (adapter, out, {"base": str(tmp_path / "gone")}, "gone does not exist"),
        (adapter, out, {"dtype": "int8"}, "dtype must be one of float32"),
        (prompts, out, {}, "learnt prompts are input"),
        (adapter, tmp_path / "base" / "config.json" / "out", {}, "cannot be written"),
    ]:
        with pytest.raises(ValueError, match=said):
            merged(source, target, **how)
    write_calibration(other, calibration_of(other, None))
    with pytest.raises(InputError, match="--base is for adapters"):
        plan_merge(other, out, base=str(tmp_path / "base"))
    assert not out.exists()


def test_a_base_that_is_gone_is_named(adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(InputError, match=r"base model is not at .*base; name it with"):
        plan_merge(adapter, tmp_path / "out")
    merged(adapter, tmp_path / "out", base=str(tmp_path / "moved"))


def test_a_disk_that_is_too_small_is_refused(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match="GB are free"):
        plan_merge(adapter, tmp_path / "out")


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    base = save_model(tmp_path / "base")
    assert stored_dtype(str(base)) == "float32"
    config = json.loads((base / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="are quantised"):
        stored_dtype(str(base))


def test_an_architecture_that_does_not_allow_it_leaves_nothing(tmp_path: Path) -> None:
    base = save_model(tmp_path / "base", "Olmo", tie_word_embeddings=True)
    adapter = save_calibrated_adapter(tmp_path / "adapter", base, temperature(1.7))
    with pytest.raises(InputError, match=r"Nothing was written; --keep-temperature"):
        merged(adapter, tmp_path / "out")
    assert left(tmp_path) == ["adapter", "base"]
    merged(adapter, tmp_path / "out", keep_temperature=True)
    assert_answers_alike(adapter, tmp_path / "out", 1e-4)


def test_a_model_that_was_written_wrongly_is_found_and_removed(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def adapter_left_out(model: Any, _: str) -> Any:
        return model.unload().eval()

    monkeypatch.setattr(merging, "_merged", adapter_left_out)
    with pytest.raises(MergeError, match=r"answers otherwise .* nothing was written"):
        merged(adapter, tmp_path / "out")
    assert left(tmp_path) == ["adapter", "base"]


def test_an_interruption_leaves_nothing(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(merging, "_compare", interrupted)
    with pytest.raises(KeyboardInterrupt):
        merged(adapter, tmp_path / "out")
    assert left(tmp_path) == ["adapter", "base"]


def test_a_tokenizer_saved_with_the_adapter_is_the_merged_models(
    adapter: Path, tmp_path: Path
) -> None:
    tokenizer = build_tokenizer()
    before = tokenizer.chat_template
    try:
        tokenizer.chat_template = "{{ messages[0]['content'] }}"
        tokenizer.save_pretrained(adapter)
    finally:
        tokenizer.chat_template = before
    from cogcalib.deployment.identity import identify
    from cogcalib.modeling import load_tokenizer

    own = identify(tmp_path / "base", load_tokenizer(adapter), adapter)
    write_calibration(adapter, replace(read_calibration(adapter), model=own))
    merged(adapter, tmp_path / "out")
    assert load_tokenizer(tmp_path / "out").chat_template == "{{ messages[0]['content'] }}"
    assert read_calibration(tmp_path / "out").model.tokenizer == own.tokenizer


@pytest.mark.parametrize(
    ("precision", "named", "taken"),
    [
        ("float32", None, "float32"),
        ("4-bit bfloat16", None, "bfloat16"),
        ("", None, "float16"),
        ("float32", "float16", "float16"),
    ],
)
def test_the_model_stays_in_the_format_that_it_was_calibrated_in(
    precision: str, named: str | None, taken: str, tmp_path: Path
) -> None:
    base = save_model(tmp_path / "base", dtype="float16")
    adapter = save_adapter(base, tmp_path / "adapter")
    write_calibration(
        adapter, calibration_of(base, temperature(1.3), adapter=adapter, precision=precision)
    )
    assert plan_merge(adapter, tmp_path / "out", dtype=named).dtype == taken


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_differs_by_its_rounding(dtype: str, tmp_path: Path) -> None:
    base = save_model(tmp_path / "base", dtype=dtype)
    adapter = save_calibrated_adapter(tmp_path / "adapter", base, temperature(1.7))
    plan = plan_merge(adapter, tmp_path / "out")
    assert plan.dtype == dtype
    done = merge(plan)
    assert done.folded is not None
    assert done.folded.difference <= 1e-4
    assert 0 < done.difference < merging.APART[dtype]
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert saved["model.norm.weight"].dtype == torch.float32
    assert saved["model.layers.0.self_attn.q_proj.weight"].dtype == getattr(torch, dtype)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == dtype
    assert read_calibration(tmp_path / "out").answers.options == OPTIONS
