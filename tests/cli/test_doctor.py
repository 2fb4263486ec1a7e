"""`cogcalib doctor`: what it finds, what it says mends it, and its exit code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from cogcalib import cli
from cogcalib.cli import findings
from cogcalib.cli.findings import Finding, environment
from cogcalib.cli.model_findings import model_findings
from cogcalib.deployment.calibration_file import (
    AnswerFormat,
    Calibration,
    ModelIdentity,
    tokenizer_hash,
    write_calibration,
)
from cogcalib.modeling import load_tokenizer


class Hub:
    """A hub that answers, and counts."""

    asked = 0

    def head(self, url: str, timeout: float) -> None:
        assert timeout <= 5
        Hub.asked += 1


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_session", Hub)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.delenv("COGCALIB_DATA", raising=False)
    Hub.asked = 0


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny model whose tokenizer knows letters and a few words."""
    words = ["<unk>", "</s>", "A", "B", "C", "D", "Answer:", "A.", "B.", "C.", "D."]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", chat_template="{{ 1 }}"
    )
    config = LlamaConfig(
        vocab_size=16,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=99,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    fast.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def of(found: Any) -> dict[str, Finding]:
    return {each.name: each for each in found}


def test_healthy_model_is_told_in_full_and_exit_code_is_0(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["doctor", str(model), "--json", str(tmp_path / "found.json")]) == 0
    out = capsys.readouterr().out
    for said in ("LlamaForCausalLM", "99 tokens", "linear, for the fused loss", "single, distinct"):
        assert said in out
    assert "cogcalib recalibrate" in out
    rows = json.loads((tmp_path / "found.json").read_text())
    assert {row["state"] for row in rows} <= {"ok", "note"}
    assert {row["section"] for row in rows} >= {"packages", "devices", "hub", "folders", "model"}
    assert Hub.asked == 1
    assert cli.main(["doctor", "--json", str(tmp_path / "found.json")]) == 2


def test_embedded_model_fits() -> None:
    found = of(model_findings("atlas"))
    assert {name for name, each in found.items() if each.state != "ok"} == {"calibration.json"}


def test_token_is_never_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    cli.main(["doctor"])
    out = capsys.readouterr().out
    assert "verysecret" not in out
    assert of(environment())["token"].text == "there"


def test_offline_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    found = of(environment())
    assert "HF_HUB_OFFLINE" in found["huggingface.co"].text
    assert Hub.asked == 0


def test_unreachable_hub_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Away:
        def head(self, url: str, timeout: float) -> None:
            raise ConnectionError("secret-proxy:3128")

    monkeypatch.setattr("huggingface_hub.get_session", Away)
    found = of(environment())["huggingface.co"]
    assert (found.state, found.text) == ("note", "cannot be reached: ConnectionError")
    # Of a model on the hub the cache alone is asked, once, and the rest is told all the same.
    with pytest.raises(SystemExit) as left:
        cli.main(["doctor", "owner/absent"])
    assert left.value.code == 1
    captured = capsys.readouterr()
    assert "owner/absent is no folder here, nor in the hub's cache, and" in captured.out
    assert "!! owner/absent: reach the hub (see above)" in captured.out
    assert "processor" in captured.out
    assert not huggingface_hub.constants.HF_HUB_OFFLINE


def test_packages_are_held_against_the_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = ["torch>=99", "absent-package>=1", "numpy>=1", 'numpy<1; extra == "serve"']
    monkeypatch.setattr(findings, "requires", lambda _: needed)
    found = of(environment())
    assert found["torch"].state == "broken"
    assert found["torch"].remedy == 'pip install "torch>=99"'
    assert "is not installed" in found["absent-package"].text
    assert "numpy" not in found
    assert found["serve"].state == "note"
    assert found["serve"].remedy == 'pip install "cogcalib[serve]"'


def test_every_extra_of_the_package_is_looked_at() -> None:
    names = {each.name for each in environment() if each.section == "extras"}
    assert names >= {"4bit", "laplace", "ray", "vllm"}
    assert not names & {"dev", "atlas"}


def test_broken_data_folder_is_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COGCALIB_DATA", str(tmp_path / "absent"))
    with pytest.raises(SystemExit) as left:
        cli.main(["doctor"])
    assert left.value.code == 1
    assert "!! data: export COGCALIB_DATA=FOLDER" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["/absent/model"], ["--base", "atlas"], ["atlas", "--base", "x"]]
)
def test_wrong_input_is_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", *words]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_adapter_whose_base_is_gone_is_broken(tmp_path: Path, model: Path) -> None:
    config = {"base_model_name_or_path": str(tmp_path / "gone"), "peft_type": "LORA"}
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    found = of(model_findings(str(tmp_path / "adapter")))
    assert found["base model"].state == "broken"
    assert found["base model"].remedy.endswith("--base MODEL")
    given = of(model_findings(str(tmp_path / "adapter"), str(model)))
    assert given["kind"].text == f"adapter on {model}"
    assert "adapter_model.safetensors" in given["weights"].text
    assert given["label tokens"].state == "ok"


def test_pickled_weights_and_foreign_code_are_broken(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert of(model_findings(str(model)))["weights"].state == "broken"
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "model_type": "unheard-of"}))
    assert of(model_findings(str(model)))["architecture"].state == "broken"


def test_tokenizer_without_letters_or_end_is_told(model: Path) -> None:
    path = model / "tokenizer.json"
    content = json.loads(path.read_text())
    for letter in "CD":
        del content["model"]["vocab"][letter]
    path.write_text(json.dumps(content))
    config = json.loads((model / "tokenizer_config.json").read_text())
    del config["eos_token"]
    (model / "tokenizer_config.json").write_text(json.dumps({**config, "pad_token": "<unk>"}))
    found = of(model_findings(str(model)))
    assert found["label tokens"].state == "broken"
    assert "not distinct" in found["label tokens"].text
    assert found["end token"].state == "broken"


def test_calibration_is_read_and_held_against_the_tokenizer(model: Path) -> None:
    tokenizer = load_tokenizer(model)
    identity = ModelIdentity("model", None, None, tokenizer_hash(tokenizer))
    calibration = Calibration(identity, AnswerFormat("options", "options"))
    write_calibration(model, calibration)
    found = of(model_findings(str(model)))
    assert found["calibration.json"].text.startswith("options, no map")
    assert "calibrated with" not in found
    write_calibration(model, replace(calibration, model=replace(identity, tokenizer="other")))
    assert of(model_findings(str(model)))["calibrated with"].state == "broken"
    (model / "calibration.json").write_text("{")
    assert of(model_findings(str(model)))["calibration.json"].state == "broken"
