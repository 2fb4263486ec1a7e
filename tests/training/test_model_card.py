"""The model card that the trainer leaves: ours, true, runnable, and nobody's own overwritten."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from huggingface_hub.repocard import metadata_load
from peft import LoraConfig
from tiny_run import make_model, make_tokenizer, make_trainer

from cogcalib.deployment.calibration_file import read_calibration
from cogcalib.modeling import resolve_model
from cogcalib.training import CogCalibConfig, CogCalibTrainer

LORA: dict[str, Any] = {"task_type": "CAUSAL_LM", "r": 2, "target_modules": ["q_proj"]}


@pytest.fixture
def base(tmp_path: Path) -> str:
    make_model().save_pretrained(tmp_path / "base")
    make_tokenizer().save_pretrained(tmp_path / "base")
    return str(tmp_path / "base")


def train(output: Path, base: str, *, adapted: bool = True, **settings: Any) -> CogCalibTrainer:
    arguments = {"peft_config": LoraConfig(**LORA)} if adapted else {}
    trainer = make_trainer(output, model=base, sft_arguments=arguments, **settings)
    trainer.train()
    return trainer


def code_blocks(card: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("adapted", [True, False])
def test_saved_model_has_our_card(tmp_path: Path, base: str, adapted: bool) -> None:
    train(tmp_path / "out", base, adapted=adapted).save_model()
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for secret in ("None", "/tmp", str(tmp_path), socket.gethostname(), "TRL", "Needed"):
        assert secret not in text
    data = metadata_load(tmp_path / "out" / "README.md")
    assert data["model-index"][0]["name"] == "base-cogcalib"
    assert "base_model" not in data
    assert not any(str(tag).startswith("base_model:") for tag in data["tags"])
    ece = read_calibration(tmp_path / "out").metrics[0].raw["ece"]["value"]
    assert f"| ECE, % | {100 * ece:.1f} [" in text
    assert (tmp_path / "out" / "reliability.png").is_file()


def test_somebodys_card_is_as_it_was(
    tmp_path: Path, base: str, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = train(tmp_path / "out", base)
    own = tmp_path / "out" / "README.md"
    own.write_text("---\nlicense: mit\n---\n# Mine\n")
    trainer.save_model()
    assert own.read_text() == "---\nlicense: mit\n---\n# Mine\n"
    assert "was not written by cogcalib and is kept" in caplog.text
    trainer.create_model_card()
    assert own.read_text() == "---\nlicense: mit\n---\n# Mine\n"


def test_checkpoints_have_no_card_and_training_none_of_trl(tmp_path: Path, base: str) -> None:
    train(tmp_path / "out", base, save_strategy="steps", save_steps=2)
    assert list((tmp_path / "out").glob("checkpoint-*"))
    assert not list((tmp_path / "out").rglob("README.md"))


def test_pushed_model_has_its_name_in_the_card(
    tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = train(tmp_path / "out", base)
    pushed: list[dict[str, Any]] = []

    class Hub:
        def upload_folder(self, **arguments: Any) -> str:
            pushed.append(arguments)
            return "done"

    monkeypatch.setattr("transformers.trainer.hf_api", Hub)
    trainer.hub_model_id = "us/geography"
    assert trainer.push_to_hub(dataset_name="us/cities", tags="maps") == "done"
    (arguments,) = pushed
    card = Path(arguments["folder_path"]) / "README.md"
    data = metadata_load(card)
    assert data["datasets"] == ["us/cities"]
    assert {"maps", "cogcalib"} <= set(data["tags"])
    assert data["model-index"][0]["name"] == "geography"
    assert 'cogcalib.load("us/geography"' in code_blocks(card)[0]
    assert not data["tags"].count("trl") > 1


def test_code_of_the_card_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    letters = [" A", " B", " C", " D"]
    options = ["France", "Chile", "Japan", "Ghana"]
    shown = "\n".join(
        f"{each.strip()}. {text}" for each, text in zip(letters, options, strict=True)
    )
    rows = [
        {
            "prompt": f"Question: Which country is city {n} in?\n{shown}\nAnswer:",
            "completion": letters[n % 4],
            "options": letters,
        }
        for n in range(40)
    ]
    trainer = CogCalibTrainer(
        model=resolve_model("atlas"),
        args=CogCalibConfig(
            output_dir=str(tmp_path / "out"),
            max_steps=2,
            use_cpu=True,
            bf16=False,
            report_to="none",
            style_steps=0,
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(rows[:20]),
        calibration_dataset=Dataset.from_list(rows[20:]),
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=2),
    )
    trainer.train()
    trainer.save_model()
    monkeypatch.chdir(tmp_path / "out")
    ours, plain = code_blocks(Path("README.md"))
    capsys.readouterr()
    exec(ours, {})
    answer, confidence, abstains = capsys.readouterr().out.rsplit(maxsplit=2)
    assert answer.strip() in "ABCD"
    assert 0 < float(confidence) <= 1
    assert abstains == "False"
    names: dict[str, Any] = {}
    exec(plain, names)
    assert type(names["model"]).__name__ == "PeftModelForCausalLM"
