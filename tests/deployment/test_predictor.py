"""`cogcalib.load` and what it gives: batches, streams, rules, every way to a model."""

from __future__ import annotations

import copy
import importlib.util
import itertools
import json
from dataclasses import replace

import pytest
import torch
from abstention_rules import rule
from completion_server import CompletionServer, serve
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

import cogcalib
from cogcalib.deployment import AnswerFormat, Calibration, FittedMap, write_calibration
from cogcalib.deployment.access import ModelAccess
from cogcalib.deployment.calibration_file import FILE, read_calibration
from cogcalib.deployment.identity import identify
from cogcalib.deployment.inputs import RefusedInput
from cogcalib.deployment.opened import find_model, open_model
from cogcalib.modeling import fingerprint
from cogcalib.modeling.adapters import record_base
from cogcalib.records import InputError

ASK = "Question: In which country is {}?\nAnswer:"
OPEN = AnswerFormat("open-ended", "mean", max_new_tokens=5)
LETTERS = AnswerFormat("options", "options", options=(" A", " B"))
HEAT = FittedMap("temperature", {"temperature": 2.0, "at_bound": False}, 9, "s", "h")


def prompts(n: int) -> list[str]:
    return [ASK.format("Lima " * (1 + i % 5) + str(i)) for i in range(n)]


def test_stream_gives_what_predict_gives(saved) -> None:
    predictor = cogcalib.load(saved(LETTERS, map=HEAT, rules=(rule(0.1, 0.6),)), device="cpu")
    inputs = prompts(23)
    whole = predictor.predict(inputs)
    parts = list(predictor.stream(iter(inputs), chunk=4))
    for one, other in zip(whole, parts, strict=True):
        assert one.confidence == pytest.approx(other.confidence, abs=1e-6)
        assert replace(one, confidence=0, raw_confidence=0, alternatives=()) == replace(
            other, confidence=0, raw_confidence=0, alternatives=()
        )
    assert {answer.abstain for answer in whole} == {True, False}
    assert all(answer.abstain == (answer.confidence < 0.6) for answer in whole)


def test_stream_takes_inputs_as_they_are_needed(saved) -> None:
    predictor = cogcalib.load(saved(LETTERS), device="cpu")
    taken = itertools.count()
    answers = predictor.stream((ASK.format(next(taken)) for _ in itertools.count()), chunk=3)
    next(answers)
    assert next(taken) == 3
    assert list(itertools.islice(answers, 2))
    assert next(taken) == 4  # the one above counts


def test_ten_thousand_inputs_stream(saved) -> None:
    predictor = cogcalib.load(saved(LETTERS), device="cpu")
    short = ["A:", "B:", "Lyon:"]
    answers = predictor.stream((short[i % 3] for i in range(10_000)), progress=True)
    counted = [answer.answer for answer in answers]
    assert len(counted) == 10_000
    assert counted[:3] * 3_333 == counted[:9_999]


def test_wrong_inputs_are_named_by_their_index(saved) -> None:
    predictor = cogcalib.load(saved(LETTERS), device="cpu")
    good = prompts(5)
    with pytest.raises(RefusedInput, match="input 3: the prompt is empty"):
        predictor.predict([*good[:3], "", *good])
    with pytest.raises(RefusedInput, match="input 2: prompt and answer take"):
        predictor.predict([*good[:2], "A " * 200])
    answers = predictor.stream([*good, None], chunk=2)
    assert len(list(itertools.islice(answers, 4))) == 4
    with pytest.raises(RefusedInput, match="input 5: must be a prompt"):
        next(answers)
    with pytest.raises(InputError, match="must be a list"):
        predictor.predict("hello")
    with pytest.raises(InputError, match="must be a list"):
        predictor.stream("hello")
    with pytest.raises(InputError, match="chunk must be at least 1"):
        predictor.stream(good, chunk=0)
    assert predictor.predict([]) == []
    assert list(predictor.stream([])) == []


def test_another_recorded_rule_may_be_obeyed(saved) -> None:
    rules = (rule(0.05, None), rule(0.2, 0.0))
    predictor = cogcalib.load(saved(LETTERS, rules=rules), device="cpu")
    assert all(answer.abstain for answer in predictor.predict(prompts(3)))
    obeyed = predictor.predict(prompts(3), target_error=0.2)
    assert not any(answer.abstain for answer in obeyed)
    assert not any(answer.abstain for answer in predictor.stream(prompts(3), target_error=0.2))
    with pytest.raises(InputError, match=r"records, 0\.05, 0\.2, got 0\.1"):
        predictor.predict(prompts(3), target_error=0.1)
    plain = replace(predictor, calibration=replace(predictor.calibration, rules=()))
    with pytest.raises(InputError, match="records no abstention rule"):
        plain.predict(prompts(3), target_error=0.1)


def test_bar_is_shown_if_asked_for(saved, capfd) -> None:
    predictor = cogcalib.load(saved(LETTERS), device="cpu")
    capfd.readouterr()
    plain, shown = predictor.predict(prompts(4)), predictor.predict(prompts(4), progress=True)
    assert plain == shown
    assert list(predictor.stream(iter(prompts(4)), progress=True))


@pytest.fixture
def adapter(saved, tmp_path, llama, tokenizer):
    """An adapter on the tiny Llama, and its base."""
    base = saved(LETTERS)
    model = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(3)
    config = LoraConfig(
        task_type="CAUSAL_LM", r=2, init_lora_weights=False, target_modules=["q_proj", "v_proj"]
    )
    adapted = get_peft_model(model, config)
    folder = tmp_path / "adapter"
    adapted.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    record_base(folder, fingerprint(base))
    write_calibration(folder, Calibration(identify(base, tokenizer, folder), LETTERS))
    merged = tmp_path / "merged"
    adapted.merge_and_unload().save_pretrained(merged)
    tokenizer.save_pretrained(merged)
    write_calibration(merged, Calibration(identify(merged, tokenizer), LETTERS))
    return folder, base, merged


def test_adapter_and_merged_model_answer_alike_and_not_as_the_base(adapter) -> None:
    folder, base, merged = adapter
    one, other, plain = (
        cogcalib.load(path, device="cpu").predict(prompts(8)) for path in (folder, merged, base)
    )
    for a, b in zip(one, other, strict=True):
        assert a.answer == b.answer
        assert a.confidence == pytest.approx(b.confidence, abs=1e-5)
    assert any(abs(a.confidence - b.confidence) > 1e-3 for a, b in zip(one, plain, strict=True))


def test_base_is_the_one_given_or_found(adapter, tmp_path) -> None:
    folder, base, _ = adapter
    expected = cogcalib.load(folder, device="cpu").predict(prompts(3))
    moved = tmp_path / "moved"
    base.rename(moved)
    with pytest.raises(InputError, match=r"its base model is not at .*model; name it with base"):
        cogcalib.load(folder)
    assert cogcalib.load(folder, base=str(moved), device="cpu").predict(prompts(3)) == expected
    with pytest.raises(InputError, match="base is for adapters"):
        cogcalib.load(moved, base=str(moved))


def test_calibration_of_another_model_or_tokenizer_is_refused(adapter) -> None:
    folder, _, merged = adapter
    with pytest.raises(InputError, match="was made with another model"):
        cogcalib.load(merged, calibration=folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["chat_template"] = "{{ messages }}"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="was made with another tokenizer"):
        cogcalib.load(folder)


def test_missing_calibration_and_missing_model_are_said(saved, tmp_path) -> None:
    folder = saved(LETTERS)
    calibration = read_calibration(folder)
    (folder / FILE).unlink()
    with pytest.raises(InputError, match=r"has no calibration\.json"):
        cogcalib.load(folder)
    given = cogcalib.load(folder, calibration=calibration, device="cpu")
    assert given.predict(prompts(2))
    opened = open_model(find_model(folder), ModelAccess(device="cpu"))
    assert opened.identity == calibration.model
    assert opened.saved.folder == folder
    with pytest.raises(InputError, match="does not exist"):
        cogcalib.load(tmp_path / "nowhere")
    for name in ("atlas", "smollm2"):  # no hub is asked for these
        with pytest.raises(InputError, match=rf"^{name} is an embedded model, and has no cal"):
            cogcalib.load(name)
    (tmp_path / "run" / "train" / "sft").mkdir(parents=True)
    (tmp_path / "run" / "train" / "sft" / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"holds no model.*; give the folder of one model.*sft"):
        cogcalib.load(tmp_path / "run")


def test_damaged_map_is_said_before_the_model_is_loaded(saved) -> None:
    folder = saved(LETTERS, map=FittedMap("platt", {"slope": 1.0}, 9, "s", "h"))
    (folder / "model.safetensors").write_bytes(b"never read")
    with pytest.raises(InputError, match="map platt: intercept must be a finite number"):
        cogcalib.load(folder)


def test_four_bits_name_what_is_to_be_installed(saved, monkeypatch) -> None:
    folder = saved(LETTERS)
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else found(name)
    )
    with pytest.raises(ValueError, match=r'pip install "cogcalib\[4bit\]"'):
        cogcalib.load(folder, four_bit=True)


@pytest.mark.parametrize("answers", [LETTERS, OPEN])
def test_served_model_answers_as_the_loaded_one(saved, llama, tokenizer, answers) -> None:
    folder = saved(answers)
    expected = cogcalib.load(folder, dtype="float64", device="cpu").predict(prompts(4))
    with serve(CompletionServer(llama, tokenizer, most=len(tokenizer))) as server:
        served = cogcalib.load(
            folder, endpoint=server.url, served_name="tiny", top_logprobs=len(tokenizer)
        )
        assert served.identity.name == "tiny"
        for one, other in zip(served.predict(prompts(4)), expected, strict=True):
            assert one.answer == other.answer
            assert one.confidence == pytest.approx(other.confidence, abs=1e-4)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"endpoint": "http://localhost:1/v1"}, "endpoint and served_name go together"),
        ({"served_name": "x"}, "endpoint and served_name go together"),
        ({"endpoint": "http://h/v1", "served_name": "x", "device": "cpu"}, "device cannot be used"),
        ({"endpoint": "http://h/v1", "served_name": "x", "four_bit": True}, "four_bit cannot"),
        ({"timeout": 3.0}, "timeout cannot be used without an endpoint"),
        ({"dtype": "int8"}, "dtype must be one of"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"device": "potato"}, "device must be a torch device"),
        ({"device": "cuda:99"}, "device must be one that is there"),
    ],
)
def test_what_does_not_go_together_is_refused(saved, given, what) -> None:
    with pytest.raises(ValueError, match=what):
        cogcalib.load(saved(LETTERS), **given)


def test_chat_template_saved_with_an_adapter_is_the_one_used(adapter, tokenizer) -> None:
    folder, base, _ = adapter
    own = copy.deepcopy(tokenizer)
    own.chat_template = "{% for m in messages %}{{ m['content'] }}:{% endfor %}"
    own.save_pretrained(folder)
    write_calibration(folder, Calibration(identify(base, own, folder), OPEN))
    (found,) = cogcalib.load(folder, device="cpu").questions([[{"role": "user", "content": "Ur"}]])
    assert list(found.prompt_ids) == own("Ur:", add_special_tokens=False)["input_ids"]
