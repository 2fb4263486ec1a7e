"""The worker vLLM, on a stand-in for vLLM's interface: the rows that transformers' worker finds."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from peft import LoraConfig, get_peft_model
from probe_world import (
    backend_of,
    build_choices,
    build_model,
    build_prompts,
    build_questions,
    build_tokenizer,
)
from scipy.stats import binomtest
from transformers import LlamaForCausalLM

from cogcalib.inference.experimental.vllm_adapter import adapter_rank
from cogcalib.inference.experimental.vllm_backend import VllmBackend, vllm_spec
from cogcalib.inference.transformers_backend import TransformersBackend
from cogcalib.knowledge import Knowledge, SlickSettings, assess, draw_prompts
from cogcalib.knowledge.assess import assess_with
from cogcalib.knowledge.detectors import read_signals_with
from cogcalib.knowledge.exact import answer_exactly
from cogcalib.knowledge.sampled import answer_by_sampling
from cogcalib.modeling import load_model
from cogcalib.modeling.shots import Prompt
from cogcalib.records import Example
from cogcalib.tasks import load_task

STAND_IN = Path(__file__).parents[1] / "stand_in"
SAMPLES = 300


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The stand-in, installed for as long as the test runs."""
    monkeypatch.syspath_prepend(str(STAND_IN))
    import vllm

    yield vllm
    for name in [name for name in sys.modules if name.split(".")[0] == "vllm"]:
        del sys.modules[name]


def saved(folder: Path, model: LlamaForCausalLM) -> str:
    copy.deepcopy(model).float().save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return str(folder)


def on_atlas(task: str, count: int, shots: int) -> tuple[list[Example], tuple[Prompt, ...]]:
    splits = load_task(task).splits
    prompts = draw_prompts(splits["train"], {}, [task], prompts=2, shots=shots)[task]
    return splits["test"][:count], prompts


def check_alike(found: Sequence[Knowledge], expected: Sequence[Knowledge], near: float) -> None:
    """Whether two workers found the same rows but for rounding and the entropy."""
    for own, other in zip(found, expected, strict=True):
        assert (own.example, own.prompt_ids) == (other.example, other.prompt_ids)
        assert (own.greedy, own.category) == (other.greedy, other.category)
        assert own.sampled == pytest.approx(other.sampled, abs=near)
        assert own.p_hit == pytest.approx(other.p_hit, abs=100 * near)
        assert own.signals.entropy is None
        assert own.signals.tokens == other.signals.tokens
        for name in ("nll", "margin", "p_gold"):
            value = getattr(other.signals, name)
            assert getattr(own.signals, name) == pytest.approx(value, rel=1e-4, abs=1e-4)


def test_exact_mode_finds_the_rows_of_transformers(vllm: ModuleType) -> None:
    questions, prompts = on_atlas("atlas/country-open", 24, 1)
    expected = assess(*load_model("atlas"), questions, prompts)
    found = assess_with(VllmBackend("atlas", None, "float32", None), questions, prompts)
    check_alike(found, expected, 1e-5)
    assert len({row.category for row in found}) > 1


def test_choices_find_the_rows_of_transformers(vllm: ModuleType) -> None:
    questions, prompts = on_atlas("atlas/country", 6, 0)
    expected = assess(*load_model("atlas"), questions, prompts)
    found = assess_with(VllmBackend("atlas", None, "float32", 8), questions, prompts)
    check_alike(found, expected, 1e-5)
    assert vllm.LLM.made[-1].max_num_seqs == 8


@pytest.mark.parametrize("top_k", [1, 3, 40, 1000])
@pytest.mark.parametrize("tied", ["in pairs", "all"])
def test_ties_at_the_kth_place_stay(
    vllm: ModuleType, tmp_path: Path, top_k: int, tied: str
) -> None:
    questions = build_questions()
    prompts = build_prompts(questions, prompts=1)
    model = LlamaForCausalLM(build_model().config)
    head = model.lm_head.weight.data
    head.copy_(head.view(-1, 2, head.shape[1])[:, :1].expand(-1, 2, -1).reshape(head.shape))
    if tied == "all":
        head.zero_()
    chosen = SlickSettings(top_k=top_k, temperature=0.7)
    backend = VllmBackend(saved(tmp_path, model), None, "float32", None)
    found = answer_exactly(backend, questions, prompts, chosen)
    expected = answer_exactly(backend_of(model), questions, prompts, chosen)
    for (own,), (other,) in zip(found, expected, strict=True):
        assert own.greedy == other.greedy
        assert own.sampled == pytest.approx(other.sampled, rel=1e-4)
    asked = {params.logprobs for params in vllm.LLM.made[-1].requests}
    assert (-1 in asked) == (tied == "all" or top_k == 1000)


def test_sampled_frequencies_are_the_exact_probabilities(vllm: ModuleType) -> None:
    questions, prompts = on_atlas("atlas/country-open", 24, 0)
    loaded = load_model("atlas")
    chosen = SlickSettings(mode="sampled", samples=SAMPLES, max_new_tokens=12)
    backend = VllmBackend("atlas", None, "float32", None)
    found = answer_by_sampling(backend, questions, prompts, chosen)
    expected = answer_exactly(TransformersBackend(*loaded), questions, prompts, chosen)
    between = 0
    for row, others in zip(found, expected, strict=True):
        for own, other in zip(row, others, strict=True):
            assert own.greedy == other.greedy
            assert own.sampled >= own.strict
            hits = round(own.strict * SAMPLES)
            interval = binomtest(hits, SAMPLES).proportion_ci(0.999, "exact")
            assert interval.low <= other.sampled <= interval.high
            between += 0.05 < other.sampled < 0.95
    assert between > 2


def test_draws_belong_to_the_question_and_the_prompt(vllm: ModuleType) -> None:
    questions, prompts = on_atlas("atlas/country-open", 8, 0)
    chosen = SlickSettings(mode="sampled", samples=12, max_new_tokens=12)
    backend = VllmBackend("atlas", None, "float32", None)
    first = answer_by_sampling(backend, questions, prompts, chosen)
    assert answer_by_sampling(backend, questions[3:5], prompts, chosen) == first[3:5]
    other = answer_by_sampling(backend, questions, prompts, replace(chosen, seed=1))
    assert other != first


def test_an_adapter_is_asked(vllm: ModuleType, tmp_path: Path) -> None:
    base, adapter = saved(tmp_path / "base", build_model()), str(tmp_path / "adapter")
    config = LoraConfig(r=12, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    torch.manual_seed(0)
    get_peft_model(LlamaForCausalLM.from_pretrained(base), config).save_pretrained(adapter)
    questions = build_questions()
    prompts = build_prompts(questions)
    found = read_signals_with(VllmBackend(base, adapter, "bfloat16", None), questions)
    for used, near in ((adapter, True), (None, False)):
        loaded = load_model(base, adapter=used, dtype="bfloat16")
        expected = [row.signals.nll for row in assess(*loaded, questions, prompts)]
        assert ([row.nll for row in found] == pytest.approx(expected, rel=0.02)) == near
    assert vllm.LLM.made[-1].lora_rank == 16


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"use_dora": True}, "has use_dora, which vLLM does not compute as PEFT does"),
        ({"alpha_pattern": {"q_proj": 3}}, "has alpha_pattern, which vLLM"),
        ({"bias": "lora_only"}, "has a bias, which vLLM"),
        ({"r": 600}, "has rank 600, vLLM takes 512 at most"),
    ],
)
def test_an_adapter_that_vllm_would_compute_otherwise_is_refused(
    tmp_path: Path, more: dict[str, object], message: str
) -> None:
    LoraConfig(target_modules=["q_proj"], **more).save_pretrained(str(tmp_path))
    with pytest.raises(ValueError, match=message):
        adapter_rank(str(tmp_path))


def test_choices_and_questions_leave_room_for_a_token(vllm: ModuleType, tmp_path: Path) -> None:
    folder = saved(tmp_path, build_model())
    assert vllm_spec(folder).positions == 511
    backend = VllmBackend(folder, None, "float32", None)
    long = replace(build_questions()[0], prompt="x " * 600)
    with pytest.raises(ValueError, match="the model has 511 positions"):
        answer_exactly(backend, [long], [Prompt(0, (), None)], SlickSettings())
    assert read_signals_with(backend, build_choices())[0].tokens >= 1


def test_nan_is_told(vllm: ModuleType, tmp_path: Path) -> None:
    model = LlamaForCausalLM(build_model().config)
    model.model.norm.weight.data.fill_(torch.nan)
    backend = VllmBackend(saved(tmp_path, model), None, "float32", None)
    with pytest.raises(ValueError, match="nan logits"):
        read_signals_with(backend, build_questions())
    with pytest.raises(ValueError, match="nan logits"):
        answer_exactly(backend, build_questions(), [Prompt(0, (), None)], SlickSettings())


def test_what_stops_vllm_is_told(vllm: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(**_: object) -> None:
        raise RuntimeError("Engine core initialization failed.")

    monkeypatch.setattr(vllm, "LLM", failing)
    with pytest.raises(ValueError, match="vLLM cannot load model 'atlas': Engine core"):
        VllmBackend("atlas", None, "float32", None)
