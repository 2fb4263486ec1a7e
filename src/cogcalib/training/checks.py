"""Checks of a training's arguments and surroundings, before any expensive work."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from datasets import Dataset
from peft import PeftConfig
from torch import nn
from transformers import AutoTokenizer

from cogcalib.training.alpha_controller import WORDS
from cogcalib.training.collator import OPTION_IDS
from cogcalib.training.column_checks import check_known
from cogcalib.training.config import GATES_WITHOUT_THRESHOLD, CogCalibConfig
from cogcalib.training.dataset_checks import Rows, check_alike, check_options, data_format
from cogcalib.training.logs import get_logger
from cogcalib.training.option_ids import OPTIONS

logger = get_logger(__name__)
FEW = 100
"""Fewer calibration examples than this are warned of."""


def settle(args: CogCalibConfig, train: Any) -> CogCalibConfig:
    """The arguments with what they left open filled in; the training data settle the support."""
    columns = set(getattr(train, "column_names", None) or ())
    return args.settled(bool(columns & {OPTION_IDS, OPTIONS}))


def with_calibration(
    args: CogCalibConfig, train: Any, calibration: Any, text_field: str | None
) -> tuple[Any, Any, Rows]:
    """Training and calibration data; the latter is split off where it is needed and missing.

    Also the rows of each as `split_calibration` returns them, empty if nothing was split.

    Args:
        args: The configuration, settled.
        train: The argument ``train_dataset``.
        calibration: The argument ``calibration_dataset``, or None.
        text_field: As in `check_data_sets`.

    Raises:
        ValueError: If there are too few examples.
    """
    reason = _needs_calibration(args)
    if calibration is not None or reason is None:
        return train, calibration, {}
    data_format(train, "train_dataset", text_field)
    from cogcalib.training.calibration_split import split_calibration

    return split_calibration(train, args.calibration_share, text_field, reason)


def _needs_calibration(args: CogCalibConfig) -> str | None:
    """What needs a calibration data set, and for what; None if nothing does."""
    if args.gate not in GATES_WITHOUT_THRESHOLD:
        return f"gate={args.gate!r} needs a calibration_dataset to estimate its threshold on"
    if args.style_steps == "auto" and args.gate != "none":
        return "style_steps='auto' needs a calibration_dataset to measure on"
    if args.alpha in WORDS:
        return f"alpha={args.alpha!r} needs a calibration_dataset to measure on"
    return None


def check_data_sets(
    args: CogCalibConfig, train: Any, calibration: Any, text_field: str | None
) -> None:
    """Raise ValueError unless the data sets are there, alike, and say what gate and support need.

    Args:
        args: The configuration, settled.
        train: The argument ``train_dataset``.
        calibration: The argument ``calibration_dataset``, or None.
        text_field: Name of the column of plain text; None if a formatting function makes one.
    """
    train_format = data_format(train, "train_dataset", text_field)
    batch = args.per_device_train_batch_size * args.world_size
    if args.dataloader_drop_last and not args.packing and len(train) < batch:
        raise ValueError(
            f"train_dataset has {len(train)} examples, a batch has {batch}: "
            "dataloader_drop_last=True would leave nothing to train on"
        )
    if args.unit == "turn" and train_format != "tokenised" and not args.assistant_only_loss:
        raise ValueError(
            "unit='turn' needs assistant_only_loss=True, or tokenised examples with 'labels': a "
            f"turn ends where tokens are not learnt, got {train_format!r} "
            "without it"
        )
    _refuse_whole_texts(args, train_format)
    if args.gate != "none" and args.support == "options":
        check_options(train)
    if args.gate == "oracle":
        check_known(train)
    if calibration is None:
        return
    calibration_format = data_format(calibration, "calibration_dataset", text_field)
    if calibration_format != train_format:
        raise ValueError(
            f"calibration_dataset must have the format of train_dataset, {train_format!r}, "
            f"got {calibration_format!r}"
        )
    if args.gate == "none":
        return
    check_alike(train, calibration)
    if len(calibration) < FEW:
        logger.warning(
            "calibration_dataset has %s examples: a threshold estimated on fewer than %s is mostly "
            "noise.",
            len(calibration),
            FEW,
        )


def _refuse_whole_texts(args: CogCalibConfig, train_format: str) -> None:
    """Raise ValueError where prompts would be learnt in silence, so that a threshold means little.

    The NLL is then that of the whole text, no example of it counts as known, the threshold is
    minus infinity and nothing is ever penalised.
    """
    whole = train_format == "text" or (train_format == "messages" and not args.assistant_only_loss)
    if not whole or args.learn_prompts or args.gate in GATES_WITHOUT_THRESHOLD:
        return
    remedy = (
        "split each text into 'prompt' and 'completion'"
        if train_format == "text"
        else "set assistant_only_loss=True, or give 'prompt' and 'completion' as messages"
    )
    raise ValueError(
        f"train_dataset holds {'plain texts' if train_format == 'text' else 'messages'}, whose "
        f"prompts would be trained on as well: gate={args.gate!r} would judge the NLL of whole "
        f"texts, which are never known, and penalise nothing; {remedy}, or set learn_prompts=True "
        "if that is meant"
    )


def check_template(args: CogCalibConfig, train: Dataset, tokenizer: Any, model: Any) -> None:
    """Raise ValueError for messages where no chat template renders them, or marks the answers.

    Args:
        args: The configuration, which may name a template.
        train: The argument ``train_dataset``.
        tokenizer: The argument ``processing_class``; None: TRL loads that of the model.
        model: The argument, as `named_model` has it.
    """
    if args.chat_template_path or "input_ids" in train.column_names:
        return
    first, columns = train[0], ("messages", "conversations", "prompt", "completion")
    column = next((name for name in columns if isinstance(first.get(name), list)), None)
    if column is None or (tokenizer is None and not isinstance(model, str)):
        return
    if tokenizer is None:
        tokenizer = AutoTokenizer.from_pretrained(model)
    if getattr(tokenizer, "chat_template", None) is None:
        raise ValueError(
            f"{column} of train_dataset are messages, and the tokenizer has no chat template to "
            "render them: set chat_template_path to a model or file that has one, or give 'prompt' "
            "and 'completion' as texts"
        )
    if args.assistant_only_loss:
        _check_marks(tokenizer)


def _check_marks(tokenizer: Any) -> None:
    """Raise ValueError for a chat template that does not say where the assistant speaks."""
    from trl.chat_template_utils import get_training_chat_template, has_generation_markers

    if has_generation_markers(tokenizer.chat_template):
        return
    try:  # TRL has marked copies of the templates of many models
        get_training_chat_template(tokenizer)
    except ValueError as error:
        raise ValueError(
            "assistant_only_loss=True needs a chat template that puts the assistant's turns "
            "between {% generation %} and {% endgeneration %}, and the tokenizer's has no such "
            "marks: set chat_template_path to a file or model whose template has them, or give "
            "'prompt' and 'completion' as messages and leave assistant_only_loss out"
        ) from error


def named_model(model: Any) -> Any:
    """A model as TRL takes it: the folder of an embedded one that is named, as ``atlas`` is.

    A name of the hub is refused at once while the hub cannot be reached and its cache has nothing.

    Raises:
        InputError: Then, or if an embedded model is neither shipped nor built.
    """
    if not isinstance(model, str) or os.path.isdir(model):
        return model
    from cogcalib.hub import check_reachable
    from cogcalib.modeling.model_files import resolve_model

    found = resolve_model(model)
    if found == model:
        check_reachable(model)
    return found


def check_evaluation(evaluation: Any, text_field: str | None) -> None:
    """Raise ValueError unless the argument ``eval_dataset``, or each of several, can be prepared.

    Args:
        evaluation: The argument.
        text_field: As in `check_data_sets`.
    """
    if evaluation is None:
        return
    several = evaluation if isinstance(evaluation, Mapping) else {"": evaluation}
    for name, dataset in several.items():
        which = f"eval_dataset[{name!r}]" if name else "eval_dataset"
        data_format(dataset, which, text_field)


def refuse_other_losses(compute_loss_func: Callable[..., Any] | None) -> None:
    """Raise ValueError if another loss is given."""
    if compute_loss_func is not None:
        raise ValueError("compute_loss_func is not supported: it would replace the method's loss")


def refuse_offloading_to_itself(args: CogCalibConfig) -> None:
    """Raise ValueError for activation offloading without an accelerator to take them from."""
    if args.activation_offloading and (args.use_cpu or not torch.accelerator.is_available()):
        raise ValueError(
            "activation_offloading=True needs an accelerator, and this training is on the CPU: "
            "there is nowhere to take the activations from"
        )


def refuse_prompt_learning(peft_config: PeftConfig | None) -> None:
    """Raise ValueError for PEFT methods that put virtual tokens before the prompt."""
    if peft_config is not None and peft_config.is_prompt_learning:
        raise ValueError(
            f"peft_config {type(peft_config).__name__} is not supported: its virtual tokens shift "
            "the positions of the answer; use an adapter such as LoraConfig"
        )


def refuse_split_sequences(parallelism: Any) -> None:
    """Raise ValueError for context and sequence parallelism (an accelerate ParallelismConfig)."""
    if parallelism is not None and (parallelism.cp_enabled or parallelism.sp_enabled):
        raise ValueError(
            "context and sequence parallelism are not supported: they split an example over "
            "processes, and the gate needs the NLL of the whole example"
        )


def refuse_shared_batches(tp_size: int, n_gpu: int) -> None:
    """Raise ValueError where several devices work on one batch.

    Args:
        tp_size: Ranks of a tensor-parallel group.
        n_gpu: GPUs that this process would spread a batch over.
    """
    if tp_size > 1:
        raise ValueError(
            f"tensor parallelism over {tp_size} ranks is not supported: they must see one batch, "
            "and the threshold is estimated on another batch on each rank"
        )
    if n_gpu > 1:
        raise ValueError(
            f"nn.DataParallel on {n_gpu} GPUs is not supported: start with `accelerate launch`, or "
            "show one GPU by CUDA_VISIBLE_DEVICES"
        )


def refuse_processes_apart(n_processes: int) -> None:
    """Raise ValueError where processes were launched together and each would train by itself.

    Args:
        n_processes: Those that accelerate knows to train together.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched > n_processes:
        raise ValueError(
            f"{launched} processes were launched (WORLD_SIZE), and each of them would train by "
            f"itself, into the same folder: accelerate sees {n_processes}; without GPUs set "
            "use_cpu=True, see docs/distributed.md"
        )


def refuse_weights_without_gradient(model: nn.Module, device_type: str) -> None:
    """Raise ValueError for 4-bit layers that learn no more once they have been evaluated.

    On a CPU with AVX512-BF16, bitsandbytes 0.50 repacks them in evaluation mode for a kernel that
    has no backward pass, and the training goes on with that one.
    """
    packs = any(getattr(module, "support_avx512bf16_for_cpu", False) for module in model.modules())
    if device_type == "cpu" and packs:
        raise ValueError(
            "4-bit weights of bitsandbytes are not supported on this CPU: after the first "
            "evaluation, hence the first threshold, they pass no gradient on; train on a GPU, or "
            "with 8 bits"
        )
