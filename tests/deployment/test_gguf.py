"""llama.cpp's converter: found, run without a shell, its failure told; and a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import transformers

from cogcalib.deployment.gguf import (
    CONVERTER,
    VARIABLE,
    ConversionError,
    check_gguf,
    check_softcap,
    find_converter,
    write_gguf,
)
from cogcalib.records import InputError

STAND_IN = """
    import argparse, json, os, pathlib, sys
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--outfile")
    parser.add_argument("--outtype")
    told = vars(parser.parse_args()) | {"offline": os.environ.get("HF_HUB_OFFLINE")}
    pathlib.Path(told["outfile"]).write_text(json.dumps(told))
"""
FAILING = """
    import pathlib, sys
    pathlib.Path(sys.argv[3]).write_text("half")
    print("INFO", file=sys.stderr)
    raise SystemExit("NotImplementedError: BPE pre-tokenizer was not recognized")
"""


def script(folder: Path, body: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / CONVERTER
    path.write_text(textwrap.dedent(body))
    return path


@pytest.fixture(autouse=True)
def nothing_at_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def test_it_is_given_named_by_the_environment_or_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=f"git clone .*llama.cpp.* --converter or in {VARIABLE}"):
        find_converter()
    on_path = script(tmp_path / "bin", STAND_IN)  # not executable, as in a checkout
    assert find_converter() == on_path
    on_path.chmod(0o755)
    assert find_converter() == on_path
    named = script(tmp_path / "named", STAND_IN)
    monkeypatch.setenv(VARIABLE, str(named))
    assert find_converter() == named
    given = script(tmp_path / "given", STAND_IN)
    assert find_converter(given) == given
    with pytest.raises(InputError, match=r"absent\.py is no file"):
        find_converter(tmp_path / "absent.py")


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [("float32", "f32"), ("float16", "f16"), ("bfloat16", "bf16"), ("float64", "f32")],
)
def test_names_are_arguments_and_nothing_is_fetched(tmp_path: Path, dtype: str, kind: str) -> None:
    folder = tmp_path / "a model; touch broken $(touch broken)"
    folder.mkdir()
    file = write_gguf(folder, tmp_path / "out.gguf", dtype, script(tmp_path / "bin", STAND_IN))
    told = json.loads(file.read_text())
    assert (told["model"], told["outtype"], told["offline"]) == (str(folder), kind, "1")
    assert {path.name for path in tmp_path.iterdir()} == {"bin", folder.name, "out.gguf"}


def test_its_failure_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    converter = script(tmp_path / "bin", FAILING)
    with pytest.raises(ConversionError, match=r"BPE pre-tokenizer .* model in .* is whole"):
        write_gguf(tmp_path, tmp_path / "out.gguf", "float32", converter)
    with pytest.raises(ConversionError, match="it said nothing"):
        write_gguf(tmp_path, tmp_path / "out.gguf", "float32", script(tmp_path / "bin", "1"))
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


def test_where_it_cannot_go(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must end in \.gguf"):
        check_gguf(tmp_path / "out.bin")
    (tmp_path / "out.gguf").touch()
    with pytest.raises(InputError, match="already exists"):
        check_gguf(tmp_path / "out.gguf")
    with pytest.raises(InputError, match="cannot be written"):
        check_gguf(tmp_path / "out.gguf" / "x.gguf")
    check_gguf(tmp_path / "new" / "x.gguf")


def test_softcaps_that_llama_cpp_takes_for_granted_are_refused() -> None:
    check_softcap(transformers.Gemma2Config())
    check_softcap(transformers.LlamaConfig())
    with pytest.raises(InputError, match="does not read the softcap of gemma3n_text"):
        check_softcap(transformers.Gemma3nTextConfig())


SERVER, BASE = "COGCALIB_LLAMA_SERVER", "COGCALIB_LLAMA_MODEL"
MISSING = [name for name in (SERVER, BASE, VARIABLE) if not os.environ.get(name)]
REAL = os.environ.get(VARIABLE, "")


@contextmanager
def served(file: Path, port: int) -> Iterator[None]:
    words = [os.environ[SERVER], "-m", str(file), "--host", "127.0.0.1", "--port", str(port)]
    words += ["-t", "1", "-c", "512", "-np", "1", "-fa", "off", "-ctk", "f32", "-ctv", "f32"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "llama-server has ended"
                time.sleep(0.5)
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"needs a llama.cpp, named by {', '.join(MISSING)}")
def test_a_real_server_gives_calibrated_probabilities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`COGCALIB_LLAMA_MODEL` is a folder that llama.cpp converts, such as SmolLM2-135M."""
    from adapters_at_hand import calibration_of, save_adapter, temperature

    from cogcalib.deployment.calibration_file import AnswerFormat, write_calibration
    from cogcalib.deployment.merge_plan import plan_merge
    from cogcalib.deployment.merging import merge
    from cogcalib.deployment.predictor import load

    base = Path(os.environ[BASE])
    adapter = save_adapter(base, tmp_path / "adapter", std=0.01)
    answers = AnswerFormat("options", "options", options=(" France", " India", " Peru", " Poland"))
    write_calibration(adapter, calibration_of(base, temperature(1.7), answers=answers))
    merge(plan_merge(adapter, tmp_path / "merged", dtype="float32"))
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable))
    file = write_gguf(tmp_path / "merged", tmp_path / "m.gguf", "float32", Path(REAL))
    prompts = [f"Question: In which country is {city}?\nAnswer:" for city in ("Lyon", "Lima")]
    ours = load(adapter)
    asked = ours.questions(prompts)
    port = 18092
    with served(file, port):
        for question, answer in zip(asked, ours.predict(prompts), strict=True):
            body = {"prompt": list(question.prompt_ids), "n_predict": 1, "n_probs": 20_000}
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/completion",
                json.dumps(body).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=60) as reply:
                (first,) = json.load(reply)["completion_probabilities"]
            listed = {each["id"]: each["logprob"] for each in first["top_logprobs"]}
            logprobs = torch.tensor([listed[ids[0]] for ids in question.option_ids]).double()
            theirs = dict(zip(question.options, logprobs.softmax(0).tolist(), strict=True))
            wanted = {each.answer: each.probability for each in answer.alternatives}
            assert theirs == pytest.approx(wanted, abs=1e-3)
