"""Checks of one model for `cogcalib doctor`, by its tokenizer and configuration alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogcalib.cli.findings import BROKEN, NOTE, OK, Finding
from cogcalib.records import Example, InputError, Option

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from cogcalib.deployment.opened import SavedModel

LETTERS = "ABCD"
_SECTION = "model"


@dataclass(frozen=True, slots=True)
class Inspected:
    """A model as far as it was read.

    Attributes:
        saved: Where it lies.
        base: Folder or hub id of the whole model, an adapter's base.
    """

    saved: SavedModel
    base: str


def model_findings(model: str, base: str | None = None) -> Iterator[Finding]:
    """What speaks for and against a model.

    Args:
        model: A folder, a hub id or an embedded model; an adapter or a whole model.
        base: Of an adapter, instead of the one that its files name.

    Raises:
        InputError: If no model lies in a folder of that name, or a base is given for a whole model.
    """
    from cogcalib.deployment.opened import base_model, find_model
    from cogcalib.hub import HERE

    try:
        saved = find_model(model)
        if not (saved.folder or model in HERE or saved.adapter or saved.file("config.json")):
            raise InputError(f"the hub has no model {model}")
    except InputError as error:
        if Path(model).expanduser().exists() or model.count("/") > 1:
            raise
        yield _not_found(model, error)
        return
    if base is not None and not saved.adapter:
        raise InputError(f"--base is for adapters, and {model} is a whole model; leave it out")
    calibration = list(_calibration_file(saved))
    if saved.adapter:
        try:
            base = base_model(saved, base, None)
        except InputError as error:
            remedy = f"cogcalib doctor {model} --base MODEL"
            yield Finding(_SECTION, "base model", BROKEN, str(error), remedy)
            yield from calibration
            return
        yield Finding(_SECTION, "kind", OK, f"adapter on {base}")
    else:
        yield Finding(_SECTION, "kind", OK, "whole model")
    inspected = Inspected(saved, base or saved.source)
    yield from _weights(inspected)
    yield from _configuration(inspected)
    yield from _tokenizer(inspected)
    yield from calibration


def _not_found(model: str, error: InputError) -> Finding:
    """A model that no folder has, nor the hub, or the hub was not asked."""
    from cogcalib.hub import no_model_here, why_away
    from cogcalib.modeling.model_files import in_a_line

    if why := why_away():
        remedy = "reach the hub (see above), or give the folder of a model"
        return Finding(_SECTION, model, BROKEN, no_model_here(model, why), remedy)
    remedy = "mind the spelling; hf auth login for a gated model"
    return Finding(_SECTION, model, BROKEN, in_a_line(error), remedy)


def _weights(found: Inspected) -> Iterator[Finding]:
    """Whether weights lie there that would be read, without reading them."""
    from cogcalib.modeling.model_files import checked_source, resolve_model

    try:
        checked_source(resolve_model(found.base), "model", "config.json")
        if found.saved.adapter and found.saved.file("adapter_model.safetensors") is None:
            raise InputError(f"{found.saved.source} has no adapter_model.safetensors")
    except (ValueError, OSError) as error:
        remedy = "save it anew with safetensors: save_pretrained(...) of transformers 5 or PEFT"
        yield Finding(_SECTION, "weights", BROKEN, str(error), remedy)
    else:
        yield Finding(_SECTION, "weights", OK, "safetensors")


def _configuration(found: Inspected) -> Iterator[Finding]:
    """Architecture, size, positions and head, by a model without memory for its weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from cogcalib.modeling import resolve_model
    from cogcalib.modeling.model_files import in_a_line

    try:
        config = AutoConfig.from_pretrained(resolve_model(found.base), trust_remote_code=False)
        with torch.device("meta"):
            bare = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:  # of whatever the architecture's code asks for
        remedy = "take a causal language model that transformers has itself"
        yield Finding(_SECTION, "architecture", BROKEN, in_a_line(error), remedy)
        return
    size = sum(parameter.numel() for parameter in bare.parameters())
    memory = f"{_memory(2 * size)} in bfloat16, {_memory(4 * size)} in float32"
    text = f"{type(bare).__name__}, {size / 1e6:,.1f} million parameters, {memory}"
    yield Finding(_SECTION, "architecture", OK, text)
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    limit = f"{positions:,} tokens" if positions else "no limit in its configuration"
    yield Finding(_SECTION, "positions", OK, limit)
    yield _head(bare, config)


def _memory(size: int) -> str:
    """Bytes as GiB, as MiB where they are few."""
    return f"{size / 2**20:,.0f} MiB" if size < 2**29 else f"{size / 2**30:,.1f} GiB"


def _head(bare: Any, config: PretrainedConfig) -> Finding:
    from cogcalib.training.linear_head import (
        UnfusableHead,
        head_parts,
        logit_scale_and_softcap,
    )

    try:
        parts = head_parts(bare.get_output_embeddings())
    except UnfusableHead as reason:
        text = f"not for the fused loss: {reason}; training works, with the logits in memory"
        return Finding(_SECTION, "head", NOTE, text)
    scale, softcap = logit_scale_and_softcap(config)
    said = ["linear, for the fused loss"]
    said += ["with a bias"] if parts.linear.bias is not None else []
    said += [f"logits times {scale:g}"] if scale != 1 else []
    said += [f"capped at {softcap:g}"] if softcap else []
    return Finding(_SECTION, "head", OK, ", ".join(said))


def _tokenizer(found: Inspected) -> Iterator[Finding]:
    from cogcalib.modeling import load_tokenizer
    from cogcalib.modeling.model_files import TOKENIZERS

    own = any(found.saved.file(name) is not None for name in TOKENIZERS)
    source = found.saved.source if own else found.base
    try:
        tokenizer = load_tokenizer(source)
    except ValueError as error:
        remedy = "save the tokenizer beside the model: tokenizer.save_pretrained(...)"
        yield Finding(_SECTION, "tokenizer", BROKEN, str(error), remedy)
        return
    yield Finding(_SECTION, "tokenizer", OK, f"{len(tokenizer):,} tokens")
    if tokenizer.eos_token is None:
        text = "none: a generated answer never ends"
        remedy = "set tokenizer.eos_token and save the tokenizer"
        yield Finding(_SECTION, "end token", BROKEN, text, remedy)
    else:
        yield Finding(_SECTION, "end token", OK, repr(tokenizer.eos_token))
    if tokenizer.chat_template is None:
        yield Finding(_SECTION, "chat template", OK, "none; prompts are plain text")
    else:
        text = "there; the prompt preset cogcalib+chat goes through it"
        yield Finding(_SECTION, "chat template", OK, text)
    yield _labels(tokenizer)
    yield from _calibrated_with(found.saved, tokenizer)


def _labels(tokenizer: PreTrainedTokenizerBase) -> Finding:
    """Whether each option's letter is one token of its own behind a prompt."""
    from cogcalib.modeling import audit_labels

    options = tuple(Option(letter, f"answer {letter.lower()}") for letter in LETTERS)
    examples = [
        Example(f"{number}", "doctor", "test", f"Which is answer {number}?", options, "A")
        for number in range(4)
    ]
    try:
        audit = audit_labels(examples, tokenizer)
    except ValueError as error:
        return Finding(_SECTION, "label tokens", BROKEN, str(error))
    assert audit is not None  # all have options
    tokens = " ".join("".join(label.tokens) or "?" for label in audit.labels)
    if audit.single and audit.distinct and audit.steady:
        return Finding(_SECTION, "label tokens", OK, f"{tokens}: single, distinct")
    wrong = [
        said
        for fits, said in (
            (audit.single, "several tokens, or unknown ones"),
            (audit.distinct, "not distinct"),
            (audit.steady, "other tokens behind other prompts"),
        )
        if not fits
    ]
    remedy = "score with --answer text, or train with options that are single tokens"
    state = NOTE if audit.distinct else BROKEN
    return Finding(_SECTION, "label tokens", state, f"{tokens}: {', '.join(wrong)}", remedy)


def _calibration_file(saved: SavedModel) -> Iterator[Finding]:
    from cogcalib.deployment.calibration_file import FILE, read_calibration

    path, remedy = saved.file(FILE), _recalibrate(saved)
    if path is None:
        text = "none: its confidence was not measured"
        yield Finding(_SECTION, FILE, NOTE, text, remedy)
        return
    try:
        found = read_calibration(Path(path).parent)
    except InputError as error:
        yield Finding(_SECTION, FILE, BROKEN, str(error), remedy)
        return
    mapped = found.map.method if found.map else "no map"
    held = sum(rule.threshold is not None for rule in found.rules)
    rules = f"abstention rules: {len(found.rules)}, {held} of them with a promise"
    text = f"{found.answers.kind}, {mapped}, {rules if found.rules else 'no abstention rules'}"
    yield Finding(_SECTION, FILE, OK, text)


def _calibrated_with(saved: SavedModel, tokenizer: PreTrainedTokenizerBase) -> Iterator[Finding]:
    """Whether the tokenizer is that of the calibration."""
    from cogcalib.deployment.calibration_file import FILE, read_calibration, tokenizer_hash

    path = saved.file(FILE)
    if path is None:
        return
    try:
        wanted = read_calibration(Path(path).parent).model.tokenizer
    except InputError:  # told already
        return
    if wanted and wanted != tokenizer_hash(tokenizer):
        text = f"{FILE} was made with another tokenizer"
        yield Finding(_SECTION, "calibrated with", BROKEN, text, _recalibrate(saved))


def _recalibrate(saved: SavedModel) -> str:
    """The command that makes a calibration; beside a model that has no folder there is no place."""
    place = "" if saved.folder else " --output DIR"
    return f"cogcalib recalibrate {saved.source} --data FILE{place}"
