"""A whole model out of an adapter, with its temperature in the weights."""

from __future__ import annotations

import gc
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import Any, cast

from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.hub import cached_file

from cogcalib.artifacts import read_json
from cogcalib.deployment.calibration_file import (
    Calibration,
    ModelIdentity,
    SplitMetrics,
    tokenizer_hash,
    write_calibration,
)
from cogcalib.deployment.card import write_card
from cogcalib.deployment.folding import (
    Folded,
    UnfoldableError,
    fold_temperature,
    largest_difference,
    probe_logits,
)
from cogcalib.deployment.merge_plan import MergePlan
from cogcalib.deployment.seen_questions import CALIBRATED_ON
from cogcalib.deployment.seen_questions import FILE as SEEN
from cogcalib.modeling import fingerprint, load_model, load_tokenizer, resolve_model
from cogcalib.records import InputError, write_json

SAME = 1e-4
"""Largest difference of a probability at which abstention rules are kept, a fraction."""
APART = {"float64": 1e-4, "float32": 1e-4, "float16": 0.02, "bfloat16": 0.1}
"""Number format -> largest difference of a probability, a fraction, between the model merged from
and the one written: one for real in float32, in half precision one that rounding does not reach."""


class MergeError(RuntimeError):
    """A merged model that is not what it was made from."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge left.

    Attributes:
        folder: Of the merged model.
        folded: Where its temperature went; None if none went into the weights.
        difference: Largest difference of a probability, a fraction, between the adapter's model
            with its temperature and the folder as it was written and read again.
        voided: Abstention rules that went, since rounding made it another model.
    """

    folder: Path
    folded: Folded | None
    difference: float
    voided: int


def merge(plan: MergePlan, say: Callable[[str], None] = lambda _: None) -> Merged:
    """Merge, fold, write, and compare what was written with what it was made from.

    The folder appears when it is whole: until then it is a temporary one beside it.

    Args:
        plan: As `plan_merge` gives it.
        say: Told of each step.

    Raises:
        InputError: If the adapter or the temperature cannot go into the weights.
        MergeError: If the written model answers otherwise than the one merged from.
    """
    say(f"reading {plan.base}")
    adapter = plan.saved.source if plan.saved.adapter else None
    model, _ = load_model(plan.base, adapter=adapter, dtype=plan.dtype, device="cpu")
    tokenizer = load_tokenizer(plan.tokenizer)
    wanted = _probabilities(probe_logits(model), plan.temperature or 1.0)
    if adapter is not None:
        say("merging the adapter")
        model = _merged(model, adapter)
    folded = None
    if plan.temperature is not None:
        say(f"folding the temperature {plan.temperature:.4g}, and checking it")
        folded = _folded(model, plan)
    plan.out.absolute().parent.mkdir(parents=True, exist_ok=True)
    for left in unfinished(plan.out):
        say(f"{left} is of a merge that was killed, or still runs; remove it if none does")
    temporary = Path(tempfile.mkdtemp(dir=plan.out.absolute().parent, prefix=f".{plan.out.name}."))
    try:
        say("writing")
        _write(model, tokenizer, plan, temporary)
        del model
        gc.collect()  # an adapter and its model name each other
        say("reading what was written")
        difference = _compare(temporary, wanted, plan)
        exact = difference <= SAME
        _write_calibration(plan, temporary, tokenizer, exact=exact)
        temporary.chmod(0o755)
        for file in temporary.iterdir():  # safetensors writes for the owner alone
            file.chmod(0o644)
        if plan.out.exists():
            raise InputError(f"{plan.out} was made meanwhile; choose another output")
        temporary.rename(plan.out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    voided = 0 if exact else len(plan.calibration.rules)
    return Merged(plan.out, folded, difference, voided)


def unfinished(out: Path) -> list[Path]:
    """Folders that merges into `out` have begun and not ended."""
    return sorted(
        each for each in out.absolute().parent.glob(f".{escape(out.name)}.*") if each.is_dir()
    )


def merged_calibration(
    calibration: Calibration, identity: ModelIdentity, temperature: float | None, *, exact: bool
) -> Calibration:
    """The calibration of a merged model.

    Histogram and metrics stay, and where confidences are what they were the abstention rules as
    well. With the temperature in the weights the model's own confidence is the calibrated one.

    Args:
        calibration: Of the model merged from.
        identity: Of the merged model.
        temperature: What went into the weights; None if nothing did.
        exact: Whether its probabilities are those of the model merged from, to `SAME`: a rule is a
            promise about a model, and rounding makes another.
    """
    if not exact:
        calibration = replace(calibration, rules=())
    if temperature is None:
        return replace(calibration, model=identity)
    return replace(
        calibration,
        model=identity,
        map=None,
        folded_temperature=temperature * (calibration.folded_temperature or 1.0),
        metrics=tuple(_own(each) for each in calibration.metrics),
    )


def _own(metrics: SplitMetrics) -> SplitMetrics:
    if not metrics.calibrated:
        return metrics
    return replace(
        metrics,
        raw=metrics.calibrated,
        calibrated={},
        raw_bins=metrics.calibrated_bins,
        calibrated_bins=None,
    )


def _probabilities(logits: Tensor, temperature: float) -> Tensor:
    return (logits / temperature).softmax(-1)


def _merged(adapted: PreTrainedModel, adapter: str) -> PreTrainedModel:
    """The model alone, the adapter in its weights."""
    peft = cast(PeftModel, adapted)
    base = cast(PreTrainedModel, peft.get_base_model())
    _untie(base)
    try:
        whole: Any = cast(Any, peft).merge_and_unload(safe_merge=True)
    except (ValueError, AttributeError, NotImplementedError) as error:
        raise InputError(f"adapter {adapter} cannot be merged: {error}") from error
    return cast(PreTrainedModel, whole.eval())


def _untie(model: PreTrainedModel) -> None:
    """Give a head that shares its weight with the embeddings one of its own, if only one of them
    is adapted: merged into both it would change the other too."""
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    adapted = [isinstance(each, BaseTunerLayer) for each in (head, embeddings)]
    whole = [_weight_of(each) for each in (head, embeddings)]
    if any(adapted) and None not in whole and whole[0].weight is whole[1].weight:
        whole[0].weight = nn.Parameter(whole[0].weight.clone(), requires_grad=False)
    # Parts that were trained whole have weights of their own already.
    config = model.config.get_text_config()
    if whole[0] is not None and whole[0].weight is not whole[1].weight:
        for each in (config, model.config):
            each.tie_word_embeddings = False


def _weight_of(module: Any) -> Any:
    """The layer inside an adapter's, or the copy that was trained in its place."""
    if hasattr(module, "modules_to_save"):
        return module.modules_to_save[module.active_adapters[0]]
    return module.get_base_layer() if isinstance(module, BaseTunerLayer) else module


def _folded(model: PreTrainedModel, plan: MergePlan) -> Folded:
    assert plan.temperature is not None
    try:
        return fold_temperature(model, plan.temperature)
    except UnfoldableError as error:
        raise InputError(
            f"the temperature cannot go into the weights: {error}. Nothing was written; "
            "--keep-temperature leaves it in calibration.json"
        ) from error


def _write(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, plan: MergePlan, folder: Path
) -> None:
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    # llama.cpp's converter prefers SentencePiece's own file, which transformers no longer writes.
    pieces = cached_file(
        resolve_model(plan.base), "tokenizer.model", _raise_exceptions_for_missing_entries=False
    )
    if pieces and not (folder / "tokenizer.model").exists():
        shutil.copyfile(pieces, folder / "tokenizer.model")
    for name in (SEEN, CALIBRATED_ON):
        if hashes := plan.saved.file(name):
            shutil.copyfile(hashes, folder / name)
    for name in ("config.json", "tokenizer_config.json"):
        _name_no_code(folder / name)


def _name_no_code(path: Path) -> None:
    """Take out where code for the model lies: ours needs none, and others would run it."""
    content = read_json(path, dict) if path.is_file() else {}
    if content.pop("auto_map", None) is not None:
        write_json(path, content)


def _compare(folder: Path, wanted: Tensor, plan: MergePlan) -> float:
    """The largest difference of a probability between the model written and the one merged from."""
    written, _ = load_model(folder, dtype=plan.dtype, device="cpu")
    found = largest_difference(_probabilities(probe_logits(written), 1.0), wanted)
    if found > APART[plan.dtype]:
        raise MergeError(
            f"the merged model answers otherwise than {plan.saved.source}: a probability differs "
            f"by {found:.2g}, in {plan.dtype} {APART[plan.dtype]:g} is allowed; nothing was written"
        )
    return found


def _write_calibration(
    plan: MergePlan, folder: Path, tokenizer: PreTrainedTokenizerBase, *, exact: bool
) -> None:
    own = tokenizer_hash(load_tokenizer(folder))
    if own != tokenizer_hash(tokenizer):
        raise MergeError(
            f"the tokenizer of {plan.tokenizer} is another one after it was saved; nothing was "
            "written"
        )
    identity = ModelIdentity(plan.out.name, fingerprint(folder)["sha256"], None, own)
    calibration = merged_calibration(plan.calibration, identity, plan.temperature, exact=exact)
    if plan.saved.adapter:
        base = {"base": plan.calibration.model.name}
        calibration = replace(calibration, trained_on={**calibration.trained_on, **base})
    write_calibration(folder, calibration)
    write_card(folder)
