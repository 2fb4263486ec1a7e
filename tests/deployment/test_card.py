"""The model card: what it says, that the hub's library reads it, and whose card it replaces."""

from __future__ import annotations

import html
import json
import logging
import re
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.repocard import metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from cogcalib import hub
from cogcalib.deployment.calibration_file import (
    AbstentionRule,
    AnswerFormat,
    Calibration,
    FittedMap,
    ModelIdentity,
    write_calibration,
)
from cogcalib.deployment.card import write_card
from cogcalib.deployment.card_code import hub_name
from cogcalib.deployment.card_text import markdown, one_line
from cogcalib.deployment.split_metrics import Graded, confidence_histogram, split_metrics
from cogcalib.records import InputError

LOCAL = ModelIdentity("atlas", "ab" * 32, None, "cd" * 32)
HUB = ModelIdentity("meta-llama/Llama-3.1-8B", None, "ef" * 20, "cd" * 32)


def calibration(**changes: Any) -> Calibration:
    generator = np.random.default_rng(0)
    own = generator.uniform(0.25, 1, 400)
    correct = generator.uniform(size=400) < own**2
    measured = split_metrics(
        "calibration",
        "12" * 32,
        Graded(own, correct, -np.log(own)),
        Graded(own**2, correct, -np.log(own)),
        resamples=50,
    )
    whole = Calibration(
        LOCAL,
        AnswerFormat("options", "options", options=(" A", " B", " C", " D")),
        FittedMap("temperature", {"temperature": 1.53}, 400, "calibration.jsonl", "12" * 32),
        (
            AbstentionRule(0.05, 0.1, 0.912, 400, 0.31, (0.27, 0.36), 0.02, "held-out.jsonl", "34"),
            AbstentionRule(0.01, 0.1, None, 400, 0.0, (), None, "held-out.jsonl", "34", "n <small"),
        ),
        (measured,),
        {"n": 1200, "sha256": "56" * 32},
        confidence_histogram(own),
        "label_smoothing, support options, gate nll, alpha 0.2",
    )
    return replace(whole, **changes)


def card(folder: Path, of: Calibration, **arguments: Any) -> str:
    write_calibration(folder, of)
    assert write_card(folder, **arguments) == folder / "README.md"
    return (folder / "README.md").read_text(encoding="utf-8")


def as_adapter(folder: Path) -> None:
    config = {"peft_type": "LORA", "r": 8, "base_model_name_or_path": "/tmp/secret/base"}
    (folder / "adapter_config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("adapter", [True, False])
@pytest.mark.parametrize("model", [LOCAL, HUB])
@pytest.mark.parametrize("bare", [True, False])
def test_card_is_read_by_the_hub_and_tells_no_secrets(
    tmp_path: Path, adapter: bool, model: ModelIdentity, bare: bool
) -> None:
    if adapter:
        as_adapter(tmp_path)
    of = calibration(model=model)
    if bare:
        of = Calibration(model, AnswerFormat("open-ended", "mean"))
    text = card(tmp_path, of)
    for secret in ("None", "nan", "/tmp", str(tmp_path), tmp_path.name, socket.gethostname()):
        assert secret not in text
    loaded = ModelCard.load(tmp_path / "README.md")
    data = metadata_load(tmp_path / "README.md")
    assert data["library_name"] == ("peft" if adapter else "transformers")
    assert data.get("base_model") == (HUB.name if model is HUB and adapter else None)
    assert "license" not in data
    assert loaded.data.pipeline_tag == "text-generation"
    assert ("model-index" in data) == (not bare)
    assert "| 50 |" not in loaded.text


def test_index_has_every_metric_with_its_interval(tmp_path: Path) -> None:
    of = calibration()
    other = replace(of.metrics[0], split="elsewhere", sha256="99" * 32, calibrated={})
    card(tmp_path, replace(of, metrics=(*of.metrics, other)), repository="us/geography")
    data = metadata_load(tmp_path / "README.md")
    name, results = model_index_to_eval_results(data["model-index"])
    assert name == "geography"
    values = {(each.dataset_name, each.metric_name): each for each in results}
    assert len(values) == len(results) == 15
    found = values["calibration", "ECE, calibrated confidence"]
    ece = of.metrics[0].calibrated["ece"]
    assert found.metric_value == ece["value"]
    assert found.metric_args["interval"] == [ece["low"], ece["high"]]
    assert found.metric_args["confidence"] == "options, calibrated"
    assert (found.dataset_revision, found.dataset_args) == ("12" * 32, {"n": 400})


def test_table_has_both_confidences_and_the_rules(tmp_path: Path) -> None:
    of = calibration()
    as_adapter(tmp_path)
    text = card(tmp_path, of)
    raw = of.metrics[0].raw["ece"]
    assert f"| ECE, % | {100 * raw['value']:.1f} [" in text
    assert "temperature 1.53, fitted on 400 questions of calibration.jsonl" in text
    assert "| 5 % | 90 % | 0.9120 | 31.0 % [27.0, 36.0] | 2.0 % |" in text
    assert "nothing is promised: n &lt;small" in text
    image = (tmp_path / "reliability.png").read_bytes()
    assert image.startswith(b"\x89PNG")
    assert len(image) < 100_000
    rendered = MarkdownIt().enable("table").render(text)
    assert rendered.count("<table>") == 3
    assert rendered.count("<tr>") == 9 + 6 + 3
    assert 'src="reliability.png"' in rendered


@pytest.mark.parametrize("name", ["atlas", "atlas-qwen2", "smollm2", "my-model", HUB.name])
@pytest.mark.parametrize("adapter", [True, False])
def test_code_without_cogcalib_is_without_it(tmp_path: Path, name: str, adapter: bool) -> None:
    if adapter:
        as_adapter(tmp_path)
    text = card(tmp_path, calibration(model=replace(LOCAL, name=name)))
    plain = text[text.index("print(answer.answer") :]
    ours = adapter and name in hub.HERE
    assert ("Without cogcalib it is a model as any other" in plain) is not ours
    assert ("The base model comes with cogcalib; all else is plain transformers" in plain) is ours
    assert ("resolve_model" in plain) is ours
    assert (f'base="{name}"' in text) is (adapter and name in ("smollm2", "my-model"))


def test_facts_of_a_merged_model_are_told(tmp_path: Path) -> None:
    trained = {"n": 900, "tasks": ["a/b", "c"], "split_off": 300, "base": HUB.name}
    text = card(tmp_path, calibration(map=None, folded_temperature=1.25, trained_on=trained))
    assert "temperature 1.25, which is in the weights" in text
    assert "900 questions of a/b, c, 300 more were split off for calibration" in text
    assert f"[{HUB.name}](https://huggingface.co/{HUB.name}), fine-tuned with" in text
    assert metadata_load(tmp_path / "README.md")["base_model"] == HUB.name
    assert "The confidence is the model's own" in text


def test_how_it_was_measured_is_told(tmp_path: Path) -> None:
    of = calibration(precision="4-bit bfloat16")
    text = card(tmp_path, of)
    assert "| Calibrated in | 4-bit bfloat16 |" in text
    assert "teacher forcing" not in text
    forced = replace(of.metrics[0], teacher_forced=True, calibrated={})
    answers = AnswerFormat("open-ended", "mean")
    text = card(tmp_path, replace(of, metrics=(forced,), answers=answers, map=None, precision=""))
    assert "On `calibration`" in text
    assert "confidence `mean` under teacher forcing; in brackets" in text
    assert "Measured in" not in text
    data = metadata_load(tmp_path / "README.md")
    _, results = model_index_to_eval_results(data["model-index"])
    assert {each.metric_args["answers"] for each in results} == {"teacher-forced"}


def test_card_written_twice_is_the_same(tmp_path: Path) -> None:
    first = card(tmp_path, calibration())
    image = (tmp_path / "reliability.png").read_bytes()
    assert card(tmp_path, calibration()) == first
    assert (tmp_path / "reliability.png").read_bytes() == image


def test_names_are_text(tmp_path: Path) -> None:
    evil = "x<script>alert(1)</script>|`*[a](javascript:b)\n## Boo\x1b[31m\u202e"
    of = calibration(
        model=replace(LOCAL, name=evil),
        method=evil,
        map=FittedMap("platt", {}, 3, evil, "12"),
        rules=(AbstentionRule(0.1, 0.1, None, 3, 0.0, (), None, evil, "12", evil),),
    )
    of = replace(of, metrics=(replace(of.metrics[0], split=evil),))
    as_adapter(tmp_path)
    text = card(tmp_path, of)
    rendered = MarkdownIt().enable("table").render(text.split("---", 2)[2])
    assert "<script" not in rendered
    assert "javascript" in rendered
    assert '<a href="javascript' not in rendered
    assert "<h2>Boo" not in rendered
    assert not re.search("[\x1b\u202e]", text)
    assert rendered.count("<table>") == 3


@pytest.mark.parametrize("text", ["a_b*c", "[x](y)", "<b>", "a|b", "# not a heading", "&amp; \\ ~"])
def test_escaped_text_is_shown_as_it_was(text: str) -> None:
    shown = MarkdownIt("commonmark").renderInline(f"a {markdown(text)}")
    assert html.unescape(shown) == f"a {text}"


@given(st.text())
def test_any_text_is_shown_as_it_was(text: str) -> None:
    shown = MarkdownIt("commonmark").renderInline(f"a {markdown(text)} z")
    assert html.unescape(shown) == f"a {one_line(text)} z"


def test_somebodys_card_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_calibration(tmp_path, calibration())
    own = tmp_path / "README.md"
    own.write_text("# Mine\n")
    with caplog.at_level(logging.WARNING):
        assert write_card(tmp_path) is None
    assert "was not written by cogcalib and is kept" in caplog.text
    assert own.read_text() == "# Mine\n"
    assert not (tmp_path / "reliability.png").exists()


def test_metadata_that_is_not_ours_stays(tmp_path: Path) -> None:
    text = card(tmp_path, calibration())
    path = tmp_path / "README.md"
    path.write_text(text.replace("---\n", "---\nlicense: mit\n", 1))
    card(tmp_path, calibration(), tags=["geography"], datasets=["us/cities"])
    data = metadata_load(path)
    assert data["license"] == "mit"
    assert data["datasets"] == ["us/cities"]
    assert "geography" in data["tags"]
    card(tmp_path, calibration())
    assert metadata_load(path) == data


def test_our_card_with_broken_metadata_is_kept(tmp_path: Path) -> None:
    text = card(tmp_path, calibration())
    path = tmp_path / "README.md"
    broken = text.replace("---\n", "---\na: [\n", 1)
    path.write_text(broken)
    assert write_card(tmp_path) is None
    assert path.read_text() == broken


def test_card_of_trl_and_peft_is_replaced(tmp_path: Path) -> None:
    from trl.trainer.utils import generate_model_card

    theirs = (
        generate_model_card(None, "out", None, None, [], None, None, "SFT"),
        ModelCard.from_template(ModelCardData(license="unknown")),
    )
    for each in theirs:
        (tmp_path / "README.md").write_text(str(each))
        text = card(tmp_path, calibration())
        assert "None" not in text
        assert "unknown" not in text


def test_hub_name_is_of_a_model_on_the_hub_alone() -> None:
    assert hub_name(HUB.name) == HUB.name
    assert hub_name("gpt2", "ab" * 20) == "gpt2"
    assert hub_name("atlas") is None
    assert hub_name("not a name/of/the hub") is None


def test_without_calibration_there_is_no_card(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="recalibrate"):
        write_card(tmp_path)
