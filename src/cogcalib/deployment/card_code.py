"""The Python of a model card: how the model is loaded and asked."""

from __future__ import annotations

import json
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from cogcalib.deployment.calibration_file import OPTIONS, Calibration, ModelIdentity
from cogcalib.modeling.model_files import ATLAS, SMOLLM2

EMBEDDED = (*ATLAS, SMOLLM2)
"""Models that only cogcalib knows by these names."""

_HERE = "."
_TEXTS = ("Paris", "Rome", "Madrid", "Berlin", "Vienna", "Lisbon", "Athens", "Oslo")


def hub_name(name: str, commit: str | None = None) -> str | None:
    """The hub id that a model's public name is; None if it is that of a local folder.

    Args:
        name: As `cogcalib.modeling.model_files.public_name`: a folder's last part has no slash.
        commit: On the hub, which only models there have.
    """
    if "/" not in name and commit is None:
        return None
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return name


def our_code(calibration: Calibration, adapter: bool, repository: str | None) -> str:
    """Code that loads the model with its confidence and asks it a question.

    Args:
        calibration: Of the model.
        adapter: Whether the model is an adapter, which needs its base.
        repository: Name of the model on the hub; None: the code runs in the model's folder.
    """
    base = place = ""
    name = calibration.model.name
    if adapter and (name == SMOLLM2 or _is_elsewhere(calibration.model)):
        base = f", base={json.dumps(name)}"
        place = "" if name == SMOLLM2 else "  # base: the folder of the base model"
    elif not repository:
        place = "  # the folder of this file"
    return "\n".join(
        [
            "import cogcalib",
            "",
            f"predictor = cogcalib.load({json.dumps(repository or _HERE)}{base}){place}",
            *_question(calibration),
            "(answer,) = predictor.predict([question])",
            "print(answer.answer, answer.confidence, answer.abstain)",
        ]
    )


def plain_code(calibration: Calibration, adapter: bool, repository: str | None) -> str:
    """Code that loads it with transformers, and with PEFT where it is an adapter."""
    folder = json.dumps(repository or _HERE)
    imports = ["from transformers import AutoModelForCausalLM, AutoTokenizer"]
    tokenizer = f"tokenizer = AutoTokenizer.from_pretrained({folder})"
    if not adapter:
        whole = f"model = AutoModelForCausalLM.from_pretrained({folder})"
        return "\n".join([*imports, "", tokenizer, whole])
    model = calibration.model
    base, place = json.dumps(model.name), ""
    if model.name in EMBEDDED:
        base = f"resolve_model({base})"
        imports = [*imports, "", "from cogcalib.modeling import resolve_model"]
    elif _is_elsewhere(model):
        place = "  # the folder of the base model"
    return "\n".join(
        [
            "from peft import PeftModel",
            *imports,
            "",
            tokenizer,
            f"base = AutoModelForCausalLM.from_pretrained({base}){place}",
            f"model = PeftModel.from_pretrained(base, {folder})",
        ]
    )


def _is_elsewhere(model: ModelIdentity) -> bool:
    """Whether the reader has to say where the base model lies."""
    return model.name not in EMBEDDED and hub_name(model.name, model.commit) is None


def _question(calibration: Calibration) -> list[str]:
    """A question as `Predictor.predict` takes it, as lines of Python."""
    answers = calibration.answers
    asked: dict[str, Any] = {}
    text = "What is the capital of France?"
    if answers.preset:
        asked["question"] = text
        if answers.kind == OPTIONS:
            asked["options"] = [*_TEXTS[: max(len(answers.options or ()), 2)]]
    elif answers.kind == OPTIONS:
        options = list(answers.options or (" A", " B"))
        lines = [f"{letter.strip()}. {each}" for letter, each in zip(options, _TEXTS, strict=False)]
        asked["prompt"] = "\n".join([f"Question: {text}", *lines, "Answer:"])
        asked["options"] = options
    else:
        asked["prompt"] = f"Question: {text}\nAnswer:"
    items = [f"    {json.dumps(key)}: {json.dumps(value)}," for key, value in asked.items()]
    return ["question = {", *items, "}"]
