"""The how-tos, concepts and papers: what they show runs, what they draw is what was recorded."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pages import DOCS, ROOT, blocks
from transformers import Trainer


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to write into, with the examples beside."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(page: str, namespace: dict[str, Any]) -> None:
    for block in blocks(DOCS / f"{page}.md"):
        exec(compile(block, f"{page}.md", "exec"), namespace)


def test_the_script_from_trl_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script: dict[str, Any] = {"__name__": "__main__"}
    run("howto-trl", script)
    assert script["trainer"].threshold_history
    assert re.search(r"accuracy \d+%, ECE \d+%", capsys.readouterr().out)
    assert (here / "out" / "calibration.json").is_file()


@pytest.mark.parametrize("page", ["own-data", "choose-alpha", "footguns"])
def test_python_of_the_other_pages_runs(page: str, here: Path) -> None:
    assert blocks(DOCS / f"{page}.md")
    run(page, {})


def test_loss_and_threshold_in_other_trainers(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """transformers' own trainer; Axolotl's plugin and LLaMA-Factory's script on stand-ins.

    Each block has the names that it imports, and no others.
    """

    def module(name: str, **members: Any) -> dict[str, Any]:
        made = ModuleType(name)
        made.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, made)
        parent, _, last = name.rpartition(".")
        if parent in sys.modules:
            monkeypatch.setattr(sys.modules[parent], last, made, raising=False)
        return made.__dict__

    saved, script, plugin, factory = blocks(DOCS / "other-trainers.md")
    ours = module("cogcalib_loss")
    exec(saved, ours)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(script, names)
    assert "step 2: threshold" in capsys.readouterr().out
    trainer = names["trainer"]
    assert names["loss"].threshold is not None
    assert trainer.compute_loss_func is names["loss"]

    kwargs = {
        "args": trainer.args,
        "data_collator": trainer.data_collator,
        "train_dataset": trainer.train_dataset,
        "eval_dataset": trainer.eval_dataset,
    }
    for name in ("axolotl", "axolotl.integrations"):
        module(name)
    module("axolotl.integrations.base", BasePlugin=object)
    own = module("cogcalib_axolotl")
    exec(plugin, own)
    plain = Trainer(trainer.model, **kwargs)
    own["CogCalibPlugin"]().post_trainer_create({}, plain)
    assert type(plain.compute_loss_func) is ours["CogCalibLoss"]
    assert any(type(each) is ours["ThresholdCallback"] for each in plain.callback_handler.callbacks)

    trained = []

    def run_exp() -> None:
        workflow = sys.modules["llamafactory.train.sft.workflow"]
        made = workflow.CustomSeq2SeqTrainer(model=trainer.model, **kwargs)
        made.train()
        trained.append(made)

    for name in ("llamafactory", "llamafactory.train", "llamafactory.train.sft"):
        module(name)
    module("llamafactory.train.sft.workflow", CustomSeq2SeqTrainer=Trainer)
    module("llamafactory.train.tuner", run_exp=run_exp)
    exec(factory, {"__name__": "__main__"})
    assert type(trained[0].compute_loss_func) is ours["CogCalibLoss"]
    assert trained[0].compute_loss_func.nll is not None


def test_every_section_of_a_report_is_explained() -> None:
    package = ROOT / "src" / "cogcalib" / "harness" / "report"
    template = (package / "templates" / "report.html.j2").read_text(encoding="utf-8")
    page = (DOCS / "read-report.md").read_text(encoding="utf-8")
    headings = re.findall(r"<h2>(.+)</h2>", template)
    assert len(headings) > 8
    told = re.findall(r"^## (.+)$", page, re.M)
    assert [each for each in told if each in headings] == headings


def test_the_files_for_accelerate_are_those_that_ship() -> None:
    shown = dict(block.split("\n", 1) for block in blocks(DOCS / "distributed.md", "yaml"))
    files = (ROOT / "examples" / "accelerate").iterdir()
    assert shown == {f"# examples/accelerate/{each.name}": each.read_text() for each in files}


def test_the_loss_needs_torch_and_numpy_alone() -> None:
    code = (
        "import sys\n"
        "from cogcalib.knowledge import estimate_threshold\n"
        "from cogcalib.losses import CogCalibLoss, Penalty\n"
        "print({'datasets', 'transformers', 'trl', 'peft', 'accelerate'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_every_paper_that_the_code_names_is_on_the_page() -> None:
    page = (DOCS / "papers.md").read_text(encoding="utf-8")
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    named = set(re.findall(r"arXiv[: ](\d{4}\.\d{4,5})", code))
    assert len(named) > 5
    assert [each for each in sorted(named) if f"[arXiv {each}]" not in page] == []


def test_the_concepts_are_drawn_from_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    script = importlib.import_module("concept_figures")
    record = json.loads((DOCS / "figures" / "gate.json").read_text(encoding="utf-8"))
    assert sum(record["known"]) + sum(record["unknown"]) == record["n"] == 2000
    for name, text in script.figures(record).items():
        assert (DOCS / "figures" / name).read_text(encoding="utf-8") == text
    limits = script.largest_confidence
    assert limits(0.1, 4) == pytest.approx(0.925)
    assert limits(0.1, 128_256) == pytest.approx(0.999997, abs=5e-7)
