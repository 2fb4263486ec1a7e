"""Models and chat templates that cannot be used: one line that names the model and the reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cogcalib.deployment.opened import find_model
from cogcalib.modeling import load_model, load_tokenizer, render_prompt, resolve_model
from cogcalib.modeling.continuations import continuations
from cogcalib.modeling.conversations import conversation_texts
from cogcalib.records import Example, InputError

ASKED = [{"role": "user", "content": "Where is Lyon?"}]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(resolve_model("atlas"), tmp_path / "copy"))


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"num_hidden_layers": 0}, "its config.json asks for 0 layers, at least 1"),
        ({"num_hidden_layers": -1}, "its config.json asks for -1 layers, at least 1"),
        ({"model_type": "t5"}, "it cannot be read, .*T5Config"),
        ({"model_type": "nonsense"}, "it cannot be read, .*nonsense"),
        ({"vocab_size": 1000}, "its weights have other shapes than its config.json says; correct"),
        ({"hidden_size": "many"}, "its tokenizer or config.json cannot be read, .*hidden_size"),
    ],
)
def test_models_that_cannot_be_read_are_told_in_a_line(
    changes: dict[str, Any], told: str, copy: Path
) -> None:
    edit(copy, **changes)
    with pytest.raises(ValueError, match=rf"^model \S+copy: {told}[^\n]*$"):
        load_model(copy)


def test_a_broken_index_of_weights_names_the_model(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "model-00001-of-00002.safetensors")
    (copy / "model.safetensors.index.json").write_text("{")
    with pytest.raises(ValueError, match=r"^model \S+copy: it cannot be read, get it anew[^\n]*$"):
        load_model(copy)


def test_a_whole_model_and_an_adapter_in_one_folder_are_not_chosen_between(copy: Path) -> None:
    (copy / "adapter_config.json").write_text("{}")
    said = r"holds a whole model and an adapter .*: remove the files of one"
    with pytest.raises(ValueError, match=said):
        load_model(copy)
    with pytest.raises(InputError, match=said):
        find_model(copy)
    (copy / "model.safetensors").unlink()
    assert find_model(copy).adapter


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{% for %}", "refuses the messages: Expected"),
        ("{{ raise_exception('no system') }}", "refuses the messages: no system"),
        ("{{ '' }}", "leaves out the question: of 'Where is Lyon"),
        ("{{ 'Hello!' }}", "leaves out the question: .* it makes 'Hello!'"),
    ],
)
def test_a_template_that_does_not_ask_the_question_is_refused(template: str, told: str) -> None:
    tokenizer = load_tokenizer("atlas")
    tokenizer.chat_template = template
    with pytest.raises(ValueError, match=f"chat template {told}"):
        conversation_texts(ASKED, [], tokenizer)
    asked = Example("q", "t", "test", "Where is Lyon?", None, "France", preset="cogcalib+chat")
    with pytest.raises(ValueError, match="chat template"):
        continuations([asked], [()], tokenizer)
    assert "Where is Lyon?" in render_prompt(asked)
