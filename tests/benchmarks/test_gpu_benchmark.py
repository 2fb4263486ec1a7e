"""The script for the minutes of a GPU, on a processor: it runs, keeps its time, loses nothing."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPT = BENCHMARKS / "gpu.py"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("gpu")


@pytest.fixture
def peers(gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packages that import and do nothing, in the place of those compared with."""
    folder = tmp_path / "peers"
    for module in ("liger_kernel/transformers", "cut_cross_entropy", "lm_eval/models/huggingface"):
        for part in (folder / module, *(folder / module).parents):
            if folder in part.parents:
                part.mkdir(parents=True, exist_ok=True)
                (part / "__init__.py").touch()
    for name in imported("liger_kernel", "cut_cross_entropy", "lm_eval"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in imported("liger_kernel", "cut_cross_entropy", "lm_eval"):  # no other test sees them
        del sys.modules[name]


def imported(*packages: str) -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] in packages]


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *options], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_all_of_it_runs_on_a_processor(tmp_path: Path) -> None:
    output = tmp_path / "dry"
    done = run("--output", str(output), "--device", "cpu", "--tiny", "--eager")
    logs = {path.name: path.read_text() for path in output.glob("*.log")}
    scored = "measured" if importlib.util.find_spec("lm_eval") else "left out"
    assert done.returncode == int(scored != "measured"), (done.stdout, logs)
    summary = json.loads((output / "gpu.json").read_text())
    states = {each["name"]: each["state"] for each in summary["steps"]}
    terms = ("label_smoothing", "margin", "entropy", "focal")
    losses = [f"loss-{term}" for term in terms]
    assert states == dict.fromkeys([*losses, "train_step"], "measured") | {"scoring": scored}
    for name in losses:
        ratios = json.loads((output / f"{name}.json").read_text())["ratios"]
        term = name.removeprefix("loss-")
        for case in (f"{term}/short/frozen/trl", f"{term}-options/long/trained/trl"):
            assert ratios[case]["time"] > 0
    ratios = json.loads((output / "train_step.json").read_text())["ratios"]
    assert ratios["lora-1b/trl"]["time"] > 0


def test_a_step_that_hangs_costs_its_share_alone(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "HERE", tmp_path)
    # It starts another, which holds the log open; both have to end.
    (tmp_path / "hangs.py").write_text(
        "import subprocess, sys, time\n"
        "code = 'import sys, time; time.sleep(1); open(sys.argv[1], \"w\"); time.sleep(60)'\n"
        "subprocess.Popen([sys.executable, '-c', code, sys.argv[0] + '.alive'])\n"
        "time.sleep(60)\n"
    )
    began = time.monotonic()
    done = gpu.run_step(gpu.Step("hangs", "hangs.py", (), (), 1.0), tmp_path, "cpu", True, 0.5)
    assert (done.name, done.state) == ("hangs", "out of time")
    assert time.monotonic() - began < 10
    time.sleep(1.5)
    assert not (tmp_path / "hangs.py.alive").exists()


def test_a_step_that_fails_says_why(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "HERE", tmp_path)
    (tmp_path / "fails.py").write_text("raise SystemExit('no kernel image for this device')\n")
    step = gpu.Step("fails", "fails.py", (), (), 60.0)
    done = gpu.run_step(step, tmp_path, "cpu", True, 60.0)
    assert (done.state, done.said) == ("failed", "no kernel image for this device")
    step = gpu.Step("lacks", "fails.py", (), (), 60.0, needs="no_such_module")
    assert gpu.run_step(step, tmp_path, "cpu", True, 60.0).state == "left out"


def test_a_step_that_is_killed_leaves_its_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed while memory is measured, which comes after the times."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import loss

    def killed(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(loss, "peak_memory", killed)
    path = tmp_path / "loss.json"
    words = ["loss.py", "--quick", "--repeats", "1", "--json", str(path)]
    words += ["--term", "focal-options", "--term", "focal"]
    monkeypatch.setattr(sys, "argv", words)
    threads = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        loss.main()
    torch.set_num_threads(threads)
    found = json.loads(path.read_text())
    assert found["ratios"]["focal-options/short/frozen/trl"]["time"] > 0
    assert found["ratios"]["focal/long/trained/torch"]["memory"] is None


def test_it_ends_within_the_time_of_a_loan(gpu: ModuleType) -> None:
    assert gpu.BUDGET < 600
    assert sum(step.limit for step in gpu.steps(["--compiled"])) <= gpu.BUDGET


def test_what_cannot_be_is_refused_at_once(
    gpu: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    for options, said in (
        ([], "torch sees no GPU"),
        (["--device", "cpu"], "--device cpu goes with --tiny"),
    ):
        monkeypatch.setattr(sys, "argv", ["gpu.py", "--output", str(tmp_path / "out"), *options])
        with pytest.raises(SystemExit, match="2"):
            gpu.main()
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("script", ["gpu", "loss"])
@pytest.mark.parametrize(
    ("module", "requirement"),
    [
        ("liger_kernel", "liger-kernel"),
        ("cut_cross_entropy", "cut-cross-entropy"),
        ("lm_eval", "lm-eval==0.4.13"),
    ],
)
def test_on_cuda_nothing_begins_without_what_it_is_compared_with(
    script: str,
    module: str,
    requirement: str,
    gpu: ModuleType,
    peers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The package is there and does not import, as without its Triton."""
    begun: list[str] = []
    tool = gpu if script == "gpu" else importlib.import_module("loss")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def start(folder: str) -> None:
        words = [script, "--device", "cuda"]
        words += ["--output", str(tmp_path / folder)] if tool is gpu else []
        monkeypatch.setattr(sys, "argv", words)
        tool.main()

    def begin(*_: object) -> object:
        begun.append(script)
        raise KeyboardInterrupt

    monkeypatch.setattr(tool, "run_step" if tool is gpu else "measure_peak_rates", begin)
    monkeypatch.setattr(gpu, "scripts_fail", str)
    threads = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        start("there")
    assert begun == [script]
    (peers / module / "__init__.py").write_text("raise RuntimeError('no driver')\n")
    for name in imported(module):
        del sys.modules[name]
    importlib.invalidate_caches()
    compared = tool is gpu or module != "lm_eval"
    with pytest.raises(SystemExit if compared else KeyboardInterrupt):
        start("lacking")
    assert len(begun) == 2 - compared
    torch.set_num_threads(threads)
    if compared:
        said = capsys.readouterr().err
        assert f"does not import (pip install {requirement}): RuntimeError: no driver" in said
        assert not (tmp_path / "lacking").exists()


def test_on_cuda_nothing_begins_unless_every_benchmark_imports(
    gpu: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A machine without TRL would have failed step by step, on time that is lent."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "PEERS", {})
    monkeypatch.setattr(gpu, "HERE", tmp_path)
    for name in ("loss", "scoring", "train_step"):
        (tmp_path / f"{name}.py").touch()
    assert gpu.scripts_fail() == ""
    (tmp_path / "train_step.py").write_text("import no_such_trl\n")
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--output", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="2"):
        gpu.main()
    said = capsys.readouterr().err
    assert "a benchmark does not import: ModuleNotFoundError: No module named 'no_such_trl'" in said
    assert not (tmp_path / "out").exists()


def test_a_torch_without_its_fused_loss_leaves_that_out(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = importlib.import_module("_linear_losses")
    assert losses.absent_from_torch() == {}
    monkeypatch.delattr(torch.nn, "LinearCrossEntropyOptions")
    assert losses.absent_from_torch().keys() == {"torch", "torch-128-rows"}


@pytest.mark.parametrize("state", ["measured", "failed", "out of time", "left out"])
def test_the_exit_code_says_whether_all_was_measured(
    state: str, gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ran(step: Any, *_: object) -> Any:
        return gpu.Done(step.name, state if step.name == "scoring" else "measured")

    monkeypatch.setattr(gpu, "run_step", ran)
    words = ["gpu.py", "--output", str(tmp_path / "out"), "--device", "cpu", "--tiny"]
    monkeypatch.setattr(sys, "argv", words)
    if state == "measured":
        gpu.main()
    else:
        with pytest.raises(SystemExit, match="1"):
            gpu.main()
    monkeypatch.setattr(
        sys, "argv", [*words[:2], str(tmp_path / "no"), *words[3:], "--budget", "0"]
    )
    with pytest.raises(SystemExit, match="1"):
        gpu.main()
