"""The script for the minutes of a GPU, on a processor: it runs, keeps its time, loses nothing."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPT = BENCHMARKS / "gpu.py"


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *options], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_all_of_it_runs_on_a_processor(tmp_path: Path) -> None:
    output = tmp_path / "dry"
    done = run("--output", str(output), "--device", "cpu", "--tiny", "--eager")
    logs = {path.name: path.read_text() for path in output.glob("*.log")}
    assert done.returncode == 0, (done.stdout, logs)
    summary = json.loads((output / "gpu.json").read_text())
    states = {each["name"]: each["state"] for each in summary["steps"]}
    scored = "measured" if importlib.util.find_spec("lm_eval") else "left out"
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
