"""The trainer: TRL's SFT with a penalty on what the model already knows.

Reading order: `CogCalibTrainer.compute_loss` is the method; `forward` gives it the logits,
`cogcalib.losses` the terms; `callbacks` says when the threshold is estimated, `knowledge` how.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftConfig
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput
from trl import SFTConfig, SFTTrainer

from cogcalib.losses import (
    LossParts,
    cogcalib_loss,
    cross_entropy,
    gate_weights,
    token_penalty,
)
from cogcalib.records import Threshold
from cogcalib.training import checks, data
from cogcalib.training.callbacks import KnowledgeCallback
from cogcalib.training.checkpoints import begin_checkpoint, last_complete_checkpoint
from cogcalib.training.collator import EXTRA_COLUMNS, KNOWN, OPTION_IDS, CogCalibCollator
from cogcalib.training.config import CogCalibConfig
from cogcalib.training.forward import SupervisedTokens, supervised_tokens
from cogcalib.training.knowledge import calibration_threshold
from cogcalib.training.metrics import batch_sums, of_threshold, per_token_and_example
from cogcalib.training.state import KnowledgeState
from cogcalib.training.text import check_text


class CogCalibTrainer(SFTTrainer):
    """Fine-tunes a causal language model without making it overconfident of what it knew before.

    Every example's answer has an NLL in the forward pass that training does anyway. Where it is at
    most the threshold, the model knows the answer already, and a penalty on its confidence is added
    to the cross-entropy: ``L_i = CE_i + alpha * 1[NLL_i <= t] * R_i`` (Wang et al., ACL 2025,
    arXiv 2505.20903). The threshold is estimated on a calibration split while training goes on.

    A drop-in for `trl.SFTTrainer`, which see for the arguments not listed here. With
    ``gate="none"`` it *is* `trl.SFTTrainer`. In evaluation the loss is plain cross-entropy, so that
    ``eval_loss`` compares across methods.

    Args:
        model: A model, or the name or path of one.
        args: The configuration; None: the defaults.
        train_dataset: Text (prompt and completion, messages, or plain text) or tokenised examples.
            Optional columns: ``options``, the competing completions as strings such as ``" A"``, or
            ``option_ids``, their tokens; ``known``, the fixed label for ``gate="oracle"``.
        calibration_dataset: Examples on which the threshold is estimated, in the same format,
            disjoint from `train_dataset`. Required by the gates that use a threshold.
        data_collator: As in TRL; it is wrapped to carry the optional columns.
        compute_loss_func: Not supported; the loss is what this trainer is about.
        peft_config: As in TRL; adapters only, no prompt learning.
        **sft_arguments: Everything else `trl.SFTTrainer` takes.

    Attributes:
        threshold_history: Every threshold that gated, oldest first.
        in_style_phase: Whether training is still plain cross-entropy.

    Raises:
        TypeError: If `args` is no `CogCalibConfig`.
        ValueError: For data or combinations that would train something else than meant, before
            training starts.
    """

    _tag_names = ["trl", "sft", "cogcalib"]  # noqa: RUF012 - as the base class declares it
    _name = "CogCalib"
    _paper = {  # noqa: RUF012
        "title": "Towards Objective Fine-tuning: How LLMs' Prior Knowledge Causes Potential Poor "
        "Calibration?",
        "id": "2505.20903",
    }

    args: CogCalibConfig
    model: PreTrainedModel
    _signature_columns: Any

    def __init__(
        self,
        model: str | PreTrainedModel,
        args: CogCalibConfig | None = None,
        train_dataset: Dataset | None = None,
        calibration_dataset: Dataset | None = None,
        *,
        data_collator: Callable[[list[dict[str, Any]]], dict[str, Any]] | None = None,
        compute_loss_func: Callable[..., Any] | None = None,
        peft_config: PeftConfig | None = None,
        formatting_func: Callable[[dict[str, Any]], str] | None = None,
        **sft_arguments: Any,
    ) -> None:
        args = CogCalibConfig("CogCalib") if args is None else args
        if not isinstance(args, CogCalibConfig):
            raise TypeError(f"args must be a CogCalibConfig, got {type(args).__name__}")
        checks.refuse_other_losses(compute_loss_func)
        checks.refuse_prompt_learning(peft_config or getattr(model, "active_peft_config", None))
        checks.refuse_split_sequences(args.parallelism_config)
        text_field = args.dataset_text_field if formatting_func is None else None
        checks.check_data_sets(args, train_dataset, calibration_dataset, text_field)
        super().__init__(
            model,
            args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            peft_config=peft_config,
            formatting_func=formatting_func,
            **sft_arguments,
        )
        checks.refuse_split_sequences(self.accelerator.parallelism_config)
        self.data_collator = CogCalibCollator(self.data_collator)
        self.penalty = args.build_penalty()
        self.gate_generator = torch.Generator()
        self.knowledge = KnowledgeState()
        self.resumed_from: str | None = None
        self.calibration_dataset: Dataset | None = None
        self._prepare_method(calibration_dataset)
        self.add_callback(KnowledgeCallback(self))

    # ---- The method ----

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The loss of one micro-batch: cross-entropy, and the penalty where the gate is open."""
        option_ids, known = inputs.pop(OPTION_IDS, None), inputs.pop(KNOWN, None)
        if self.args.gate == "none" or not self.model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

        tokens = self._forward(model, inputs)
        competing = None if option_ids is None else tokens.options_at_first(option_ids)
        parts = cogcalib_loss(
            cross_entropy(tokens.logits, tokens.targets),
            token_penalty(self.penalty, tokens.logits, tokens.targets, competing),
            tokens.example,
            tokens.n_examples,
            alpha=self.args.alpha,
            gate=partial(self._gate, known=known),
            num_items_in_batch=num_items_in_batch,
            nll_reduction=self.args.nll_reduction_name,
        )
        self._record(inputs, tokens, parts, num_items_in_batch)
        return self._scaled(parts.loss, tokens.aux_loss, num_items_in_batch)

    def _forward(self, model: nn.Module, inputs: Mapping[str, Any]) -> SupervisedTokens:
        if self.aux_loss_enabled:
            inputs = {**inputs, "output_router_logits": True}
        return supervised_tokens(model, self.model.get_output_embeddings(), inputs)

    def _gate(self, nll: Tensor, known: Tensor | None) -> Tensor:
        if self.in_style_phase:
            return torch.zeros_like(nll)
        threshold = math.nan  # the gates that do without are the only ones without a threshold
        if self.knowledge.threshold is not None:
            threshold = self.knowledge.threshold.value
            share = self._over_ranks((nll <= threshold).sum(), nll.new_tensor(len(nll)))
            share_known = float(share[0] / share[1])
            self.knowledge.update_rate(share_known)
            self._metrics["train"]["share_known"].append(share_known)
        return gate_weights(
            nll,
            threshold,
            self.args.gate_name,
            known=known,
            generator=self.gate_generator,
            rate=self.knowledge.rate,
            temperature=self.args.gate_temperature,
        )

    def _scaled(self, loss: Tensor, aux_loss: Tensor | None, num_items: Any) -> Tensor:
        """Across ranks and accumulation steps, as `SFTTrainer.compute_loss` does it."""
        # `num_items_in_batch` counts the tokens of every rank, and DDP averages their gradients.
        if self.args.average_tokens_across_devices and num_items is not None:
            loss = loss * (self.accelerator.num_processes // self.get_tp_size())
        if self.aux_loss_enabled and aux_loss is not None:
            steps = self.current_gradient_accumulation_steps if num_items is not None else 1
            loss = loss + self.router_aux_loss_coef * aux_loss.to(loss.device) / steps
        return loss

    # ---- The threshold ----

    @property
    def threshold_history(self) -> list[Threshold]:
        """Every threshold that gated, oldest first."""
        return self.knowledge.history

    @property
    def in_style_phase(self) -> bool:
        """Whether training is still plain cross-entropy, so that NLL will measure knowledge."""
        return self.knowledge.style_end is None

    def estimate_threshold(self) -> Threshold:
        """The threshold of the model as it stands now, the same on every rank.

        Raises:
            ValueError: If the trainer has no calibration data set.
        """
        if self.calibration_dataset is None:
            raise ValueError("estimate_threshold needs a calibration_dataset, the trainer has none")
        return calibration_threshold(
            self.model_wrapped,
            self.calibration_dataset,
            forward=self._forward,
            collate=self.data_collator,
            prepare=self._prepare_inputs,
            accelerator=self.accelerator,
            batch_size=self.args.per_device_eval_batch_size,
            nll_reduction=self.args.nll_reduction_name,
            step=self.state.global_step,
        )

    # ---- Logging ----

    def _record(
        self,
        inputs: Mapping[str, Any],
        tokens: SupervisedTokens,
        parts: LossParts,
        num_items: Tensor | int | None,
    ) -> None:
        """Put TRL's metrics and the method's where `log` averages them over its window."""
        sums = batch_sums(tokens, parts, num_items)
        sums["num_tokens"] = inputs["attention_mask"].sum()
        totals = dict(zip(sums, self._over_ranks(*sums.values()).tolist(), strict=True))
        self._total_train_tokens += int(totals.pop("num_tokens")) // self._tp_size
        metrics = self._metrics["train"]
        metrics["num_tokens"] = [self._total_train_tokens]
        for name, value in per_token_and_example(totals).items():
            metrics[name].append(value)
        threshold = self.knowledge.threshold
        if threshold is not None:
            for name, value in of_threshold(threshold).items():
                metrics[name].append(value)
        if self.aux_loss_enabled and tokens.aux_loss is not None:
            aux_loss = self.accelerator.gather(tokens.aux_loss.detach())
            metrics["aux_loss"].append(aux_loss.mean().item())

    def _over_ranks(self, *values: Tensor) -> Tensor:
        """Each scalar summed over all ranks, in double precision where the device has it."""
        device = self.accelerator.device
        dtype = torch.float32 if device.type == "mps" else torch.float64
        local = torch.stack([value.detach().to(device, dtype) for value in values])
        return self.accelerator.reduce(local, reduction="sum")

    # ---- Checkpoints ----

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train, or go on from a checkpoint with the thresholds it had; see `Trainer.train`.

        Raises:
            ValueError: If `resume_from_checkpoint` is True and no complete checkpoint is there.
        """
        if resume_from_checkpoint is True:
            output = str(self.args.output_dir)
            resume_from_checkpoint = last_complete_checkpoint(output, self.args.gate)
            if resume_from_checkpoint is None:
                raise ValueError(f"resume_from_checkpoint=True, but {output} has no complete one")
        self.resumed_from = (
            str(resume_from_checkpoint) if isinstance(resume_from_checkpoint, str | Path) else None
        )
        return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        if self.args.should_save:  # first, so that no checkpoint is complete without it
            name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            folder = begin_checkpoint(Path(self._get_output_dir(trial=trial)) / name)
            self.knowledge.save(folder)
        super()._save_checkpoint(model, trial)

    # ---- Data ----

    def _prepare_dataset(
        self,
        dataset: Dataset,
        processing_class: Any,
        args: SFTConfig,
        packing: bool,
        formatting_func: Callable[[dict[str, Any]], str] | None,
        dataset_name: str,
    ) -> Dataset:
        """TRL's preparation, with options resolved and nothing cut or dropped in silence."""
        if formatting_func is None:
            check_text(dataset, dataset_name, args.dataset_text_field)
        data.check_masks(dataset, dataset_name, args.completion_only_loss)
        uncut = copy.copy(args)
        uncut.max_length, uncut.shuffle_dataset = None, False
        prepare = super()._prepare_dataset

        def tokenise(examples: Dataset) -> Dataset:
            return prepare(
                examples, processing_class, uncut, packing, formatting_func, dataset_name
            )

        tokenised = tokenise(dataset)
        if data.OPTIONS in dataset.column_names:
            tokenised = data.resolve_options(dataset, tokenised, tokenise, dataset_name)
        data.check_rows(tokenised, dataset_name, args.max_length)
        return prepare(tokenised, processing_class, args, packing, None, dataset_name)

    def _prepare_method(self, calibration_dataset: Dataset | None) -> None:
        """Prepare the calibration split and check what gate and support need."""
        gated = self.args.gate != "none"
        if gated and self.args.support == "options":
            data.check_column(self.train_dataset, OPTION_IDS, "support='options'")
        if self.args.gate == "oracle":
            data.check_column(self.train_dataset, KNOWN, "gate='oracle'")
        if calibration_dataset is None:
            return
        self.calibration_dataset = self._prepare_dataset(
            calibration_dataset,
            self.processing_class,
            self.args,
            False,
            self._formatting_func,
            "calibration",
        )
        if gated:
            data.check_alike(self.train_dataset, self.calibration_dataset)
        # Without a gate as well: a temperature fitted on leaked examples would be worth nothing.
        data.check_disjoint(
            self.train_dataset, self.calibration_dataset, self._tokenizer.all_special_ids
        )

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns = self._signature_columns or []
        self._signature_columns = [*columns, *(c for c in EXTRA_COLUMNS if c not in columns)]
