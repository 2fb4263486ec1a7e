"""A hub out of reach: found out at once, and only then taken for offline."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from cogcalib import hub
from cogcalib.modeling.model_files import ATLAS, SMOLLM2, checked_folder
from cogcalib.records import InputError
from cogcalib.tasks.loading import DATA_FOLDER, check_tasks
from cogcalib.training.checks import named_model


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A port of this machine that is the hub's."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "_set_here", False)
    monkeypatch.setattr(hub, "_not_before", 0.0)
    monkeypatch.setattr(hub, "getproxies", dict)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        place = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", place)
        yield server


def test_the_client_looks_into_its_cache_while_the_hub_is_away(
    port: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "AGAIN", 0.0)
    hub.mind_the_network()  # nobody listens
    assert constants.HF_HUB_OFFLINE
    port.listen()
    hub.mind_the_network()
    assert not constants.HF_HUB_OFFLINE


def test_a_hub_that_is_away_is_not_asked_for_every_file(
    port: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(hub, "_answers", lambda: bool(asked.append(True)))
    for _ in range(5):
        hub.mind_the_network()
    assert (len(asked), constants.HF_HUB_OFFLINE) == (1, True)
    monkeypatch.setattr(hub, "_not_before", 0.0)
    hub.mind_the_network()
    assert len(asked) == 2


def test_what_a_user_set_stays_and_a_proxy_is_not_judged(
    port: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "getproxies", lambda: {"https": "http://proxy"})
    hub.mind_the_network()
    assert not constants.HF_HUB_OFFLINE
    monkeypatch.setattr(hub, "getproxies", dict)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    port.listen()
    hub.mind_the_network()
    assert constants.HF_HUB_OFFLINE


def test_a_name_that_only_the_hub_can_have_is_refused_while_it_is_away(
    port: socket.socket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here" / "model").mkdir(parents=True)
    (tmp_path / "cache" / "models--owner--kept").mkdir(parents=True)
    hub.check_reachable(None, "atlas", "here/model", "owner/kept", "./gone", "/no/where", "a/b/c")
    with pytest.raises(InputError, match=r"owner/model is no folder here, .* cannot be reached"):
        hub.check_reachable("here/model", "owner/model")
    monkeypatch.setattr(hub, "_set_here", False)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        hub.check_reachable("owner/model")


def test_what_is_here_is_no_hub_s() -> None:
    assert set(hub.HERE) == {*ATLAS, SMOLLM2}


OWN = (
    "{{name: own, description: '', kind: open-ended, question: '{{q}}', answer: a,"
    " source: {{hub: owner/rows, parts: {{all: {{{part}}}}}}}, splits: {{test: {{part: all}}}}}}"
)


def test_bare_names_and_data_sets_are_refused_by_one_look_at_the_network(
    port: socket.socket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(hub, "_answers", lambda: bool(asked.append(True)))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    for variable in ("HF_DATASETS_CACHE", DATA_FOLDER):
        monkeypatch.delenv(variable, raising=False)
    hub.check_reachable(*hub.HERE, "model.gguf")
    own = tmp_path / "own.yaml"
    own.write_text(OWN.format(part="file: rows.jsonl"))
    check_tasks(["atlas/country", str(own)], None)
    check_tasks(["arc_challenge"], tmp_path)
    assert asked == []
    with pytest.raises(InputError, match=r"^gpt2 is no folder here, .* cannot be reached$"):
        hub.check_reachable("gpt2")
    with pytest.raises(InputError, match=r"^atlsa .*; did you mean 'atlas'?"):
        hub.check_reachable("atlsa")
    with pytest.raises(InputError, match=r"^the data set allenai/ai2_arc is not .*--data-dir"):
        check_tasks(["arc_challenge"], None)
    own.write_text(OWN.format(part="split: test"))
    with pytest.raises(InputError, match=r"^the data set owner/rows is not in the hub's cache"):
        check_tasks([str(own)], tmp_path)
    with pytest.raises(InputError, match=r"^owner/none is no folder here"):
        named_model("owner/none")
    assert asked == [True]
    (tmp_path / "allenai___ai2_arc").mkdir()
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    check_tasks(["arc_challenge"], None)


def test_a_folder_that_is_nearly_called_so_is_named(
    port: socket.socket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for folder, file in ("out", "adapter_config.json"), ("runs/base", "config.json"):
        Path(folder).mkdir(parents=True)
        Path(folder, file).touch()
    Path("outts").mkdir()  # holds no model
    with pytest.raises(InputError, match=r"^outt is no folder here, .*; did you mean 'out'\?$"):
        hub.check_reachable("outt")
    with pytest.raises(InputError, match=r"; did you mean 'runs/base'\?$"):
        hub.check_reachable("runs/bas")
    with pytest.raises(InputError, match=r"cannot be reached$"):
        hub.check_reachable("nothing/like")
    for given, meant in ("./runs/bsae", "runs/base"), (f"{tmp_path}/oout", f"{tmp_path}/out"):
        with pytest.raises(ValueError, match=f"does not exist; did you mean '{meant}'"):
            checked_folder(given, "model")


def test_a_hub_that_answers_is_left_to_say_what_it_has(port: socket.socket) -> None:
    port.listen()
    hub.check_reachable("owner/model")
    assert not constants.HF_HUB_OFFLINE


VERBS = (
    ["probe", "--model", "owner/model", "--task", "atlas/country"],
    ["score", "--model", "owner/model", "--task", "atlas/country"],
    ["score", "--model", "owner", "--task", "atlas/country"],
    ["score", "--model", "atlas", "--adapter", "owner/model", "--task", "atlas/country"],
    ["predict", "owner/model", "Who?"],
    ["recalibrate", "owner/model", "--data", "rows.jsonl"],
    ["guard", "owner/model", "--data", "rows.jsonl", "--target-error", "0.1"],
    ["merge", "owner/model", "out"],
    ["serve", "owner/model"],
    ["run", "config.yaml"],
    ["tune", "config.yaml"],
    ["reproduce", "main", "--model", "preset.yaml"],
)


@pytest.mark.parametrize("words", VERBS, ids=lambda words: f"{words[0]}-{words[1].strip('-')}")
def test_every_verb_says_so_in_a_line_before_torch_is_imported(
    words: list[str], tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(
        "name: away\nmethods: [sft]\nmodel: {path: owner/model}\ntasks: {train: atlas/country}\n"
        "train: {steps: 2}\n"
    )
    (tmp_path / "rows.jsonl").touch()
    (tmp_path / "preset.yaml").write_text(
        "{name: mine, about: '', parameters: 1.0e+6, tokens: 40,"
        " rate: {device: one, flops: 1.0e+9}, tasks: {country: {tasks: {train: atlas/country}}},"
        " config: {model: {path: owner/model}, train: {steps: 20, style_steps: 2}}}"
    )
    code = (
        "import sys; from cogcalib.cli import main; code = main(sys.argv[1:]); "
        "print('torch' in sys.modules, 'transformers' in sys.modules); sys.exit(code)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 2
    assert found.stdout.split() == ["False", "False"]
    (line,) = found.stderr.splitlines()
    assert re.match("cogcalib: owner(/model)? is no folder here, nor in the hub's cache", line)
