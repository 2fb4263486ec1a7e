"""``cogcalib probe --worker vllm`` on a stand-in for vLLM, and what it refuses."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pyarrow.parquet as pq
import pytest

from cogcalib import cli
from cogcalib.knowledge import load_probe
from cogcalib.knowledge.probe_task import ProbeTask
from cogcalib.tasks import load_task

STAND_IN = Path(__file__).parents[1] / "stand_in"
WORDS = ["probe", "--model", "atlas", "--task", "atlas/country-open", "--limit", "12"]
WORDS += ["--prompts", "2", "--shots", "1"]
VLLM = ["--worker", "vllm"]


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The stand-in, installed for as long as the test runs."""
    monkeypatch.syspath_prepend(str(STAND_IN))
    import vllm

    yield vllm
    for name in [name for name in sys.modules if name.split(".")[0] == "vllm"]:
        del sys.modules[name]


def test_the_rows_of_transformers_but_for_the_entropy(
    vllm: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*WORDS, "--output", str(tmp_path / "t")]) == 0
    assert "Not measured" not in capsys.readouterr().out
    assert "Not measured" not in (tmp_path / "t" / "probe.html").read_text(encoding="utf-8")
    folder = tmp_path / "v"
    assert cli.main([*WORDS, *VLLM, "--output", str(folder)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Not measured: entropy. The engine that the model ran in" in out
    assert "p_gold" in out
    page = (folder / "probe.html").read_text(encoding="utf-8")
    assert "Not measured: entropy." in page
    assert "worker: vllm\n" in (folder / "config.yaml").read_text(encoding="utf-8")
    rows, others = load_probe(folder), load_probe(tmp_path / "t")
    assert rows.known() == others.known()
    assert [row.category for row in rows] == [row.category for row in others]
    assert [row.p_sampled for row in rows] == pytest.approx(
        [row.p_sampled for row in others], abs=1e-5
    )
    table = pq.read_table(folder / "probe.parquet")
    assert table["entropy"].null_count == len(table) == 12
    assert table.schema == pq.read_schema(tmp_path / "t" / "probe.parquet")


def test_a_finished_probe_belongs_to_its_worker(
    vllm: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*WORDS, "--mode", "sampled", "--samples", "3", "--output", str(tmp_path / "p")]
    assert cli.main([*words, *VLLM]) == 0
    assert cli.main([*words, *VLLM]) == 0
    assert "12 questions were there from before" in capsys.readouterr().out
    assert len(vllm.LLM.made) == 1
    assert cli.main(words) == 2
    assert "worker: vllm" in capsys.readouterr().err


def test_multiple_choice(vllm: ModuleType, tmp_path: Path) -> None:
    words = ["probe", "--model", "atlas", "--task", "atlas/country", "--limit", "4", *VLLM]
    assert cli.main([*words, "--output", str(tmp_path / "p")]) == 0
    assert len(load_probe(tmp_path / "p")) == 4


def test_without_vllm_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *more: None if name == "vllm" else real(name, *more),
    )
    monkeypatch.chdir(tmp_path)
    assert cli.main([*WORDS, *VLLM]) == 2
    assert 'worker vllm needs vLLM: pip install "cogcalib[vllm]"' in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--four-bit"], "four_bit needs worker transformers"),
        (["--dtype", "float64"], "dtype must be one of float32, bfloat16, float16 with worker"),
        (
            ["--adapter", "a", "--dtype", "float32"],
            "dtype must be bfloat16 or float16 for an adapter with worker vllm",
        ),
        (["--top-k", "0"], "top_k must be at least 1 in exact mode with worker vllm"),
        (["--mode", "sampled", "--temperature", "3"], "temperature must be between 0.01 and 2.0"),
        (["--adapter", "a/b/c", "--dtype", "bfloat16"], "adapter folder a/b/c does not exist"),
    ],
)
def test_what_vllm_cannot_do_is_refused(
    vllm: ModuleType,
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    assert cli.main([*WORDS, *VLLM, *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not vllm.LLM.made
    assert not list(tmp_path.rglob("config.yaml"))


def test_several_processes_are_refused(
    vllm: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cogcalib.inference.backend_loading.process", lambda: (0, 2))
    assert cli.main([*WORDS, *VLLM]) == 2
    assert "not under accelerate launch" in capsys.readouterr().err


def test_another_worker_is_refused() -> None:
    with pytest.raises(ValueError, match="worker must be one of transformers, vllm, got 'tgi'"):
        ProbeTask(model="atlas", task="atlas/country", worker="tgi")


@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="needs Ray Data: pip install cogcalib[ray]"
)
@pytest.mark.slow
def test_rays_workers_load_it(tmp_path: Path) -> None:
    """Workers find the stand-in on the path; each partition's rows are those of one process."""
    data = tmp_path / "own.jsonl"
    examples = load_task("atlas/country-open").splits["train"][:60]
    lines = (json.dumps({"question": e.prompt, "answer": e.answer}) for e in examples)
    data.write_text("\n".join(lines), encoding="utf-8")
    words = [sys.executable, "-m", "cogcalib", "probe", "--model", "atlas", "--data", str(data)]
    words += ["--prompts", "2", "--shots", "1", "--partition", "20", *VLLM]
    path = os.pathsep.join([str(STAND_IN), *filter(None, [os.environ.get("PYTHONPATH")])])
    for name, more in (("local", []), ("ray", ["--engine", "ray", "--workers", "2"])):
        done = subprocess.run(
            [*words, *more, "--output", str(tmp_path / name)],
            env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    local, ray = (pq.read_table(tmp_path / name / "probe.parquet") for name in ("local", "ray"))
    assert ray.equals(local)
    assert ray["entropy"].null_count == 60
