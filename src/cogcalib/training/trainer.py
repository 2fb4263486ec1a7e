"""The trainer: TRL's SFT with a penalty on what the model already knows.

Reading order: `CogCalibTrainer.compute_loss` is the method; `loss` takes a batch through the model,
`cogcalib.losses` has the terms and the gate; `callbacks` says when the threshold is estimated,
`calibration_pass` how.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from datasets import Dataset
from peft import PeftConfig
from torch import Tensor, nn
from transformers import PreTrainedModel

from cogcalib.losses import CLOSED, FusedParts, Gate
from cogcalib.records import Threshold
from cogcalib.training import checks
from cogcalib.training.answering import AnsweringTrainer
from cogcalib.training.callbacks import KnowledgeCallback
from cogcalib.training.collator import KNOWN, NUMBER, OPTION_IDS
from cogcalib.training.config import CogCalibConfig
from cogcalib.training.dataset_checks import as_python, numbered_as_given
from cogcalib.training.ledger_writer import number_examples, open_ledger
from cogcalib.training.loss import PLAIN, LossRunner
from cogcalib.training.measured_answers import own_answers
from cogcalib.training.metrics import (
    batch_sums,
    input_tokens,
    of_method,
    per_token,
    sum_over_ranks,
)
from cogcalib.training.state import KnowledgeState
from cogcalib.training.supervision import SupervisedTokens, supervised_tokens, unit_starts


class CogCalibTrainer(AnsweringTrainer):
    """Fine-tunes a causal language model without making it overconfident of what it knew before.

    Every example's answer has an NLL in the forward pass that training does anyway. Where it is at
    most the threshold, the model knows the answer already, and a penalty on its confidence is added
    to the cross-entropy: ``L_i = CE_i + alpha * 1[NLL_i <= t] * R_i`` (Wang et al., ACL 2025,
    arXiv 2505.20903). The threshold is estimated on a calibration split while training goes on.

    A drop-in for `trl.SFTTrainer`, which see for the arguments not listed here. With
    ``gate="none"`` it trains what that trains, and in evaluation the loss is plain cross-entropy,
    so that ``eval_loss`` compares across methods. Both come from the logits that the model itself
    gives, also where it scales or caps them in a way that TRL's head does not know.

    Args:
        model: A model, or the name or path of one.
        args: The configuration; None: the defaults. It stays as given; `args` of the trainer is a
            copy that says what was used where it left `alpha`, `margin` or `support` open.
        train_dataset: Text (prompt and completion, messages, or plain text) or tokenised examples.
            Optional columns: ``options``, the competing completions as strings such as ``" A"``, or
            ``option_ids``, their tokens; ``known``, the fixed label for ``gate="oracle"``.
        calibration_dataset: Examples on which the threshold is estimated, in the same format,
            disjoint from `train_dataset`. Where the gate uses a threshold, or alpha or the style
            phase follow it, and it is left out, ``calibration_share`` of the training examples are
            split off for it and not trained on.
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
        from cogcalib.modeling.old_names import old_names

        args = CogCalibConfig("CogCalib") if args is None else args
        if not isinstance(args, CogCalibConfig):
            raise TypeError(f"args must be a CogCalibConfig, got {type(args).__name__}")
        train_dataset, calibration_dataset = map(as_python, (train_dataset, calibration_dataset))
        args = checks.settle(args, train_dataset)
        checks.refuse_other_losses(compute_loss_func)
        checks.refuse_offloading_to_itself(args)
        checks.refuse_prompt_learning(peft_config or getattr(model, "active_peft_config", None))
        checks.refuse_split_sequences(args.parallelism_config)
        text_field = args.dataset_text_field if formatting_func is None else None
        given = calibration_dataset is not None
        train_dataset, calibration_dataset, self._split_rows = checks.with_calibration(
            args, train_dataset, calibration_dataset, text_field
        )
        with numbered_as_given(self._split_rows):
            checks.check_data_sets(args, train_dataset, calibration_dataset, text_field)
        model = checks.named_model(model)
        checks.check_template(args, train_dataset, sft_arguments.get("processing_class"), model)
        checks.check_evaluation(sft_arguments.get("eval_dataset"), text_field)
        self.own_collator = data_collator is not None
        names, train_dataset = number_examples(train_dataset, args)
        with old_names():
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
        checks.refuse_shared_batches(self.get_tp_size(), args.n_gpu)
        checks.refuse_processes_apart(self.accelerator.num_processes)
        checks.refuse_weights_without_gradient(self.model, self.accelerator.device.type)
        self._note_base()
        self.split_off = not given and calibration_dataset is not None
        self._check_vocabulary()
        self._wrap_collator()
        self.penalty = args.build_penalty()
        self.runner = LossRunner(self.model, self.accelerator, compiled=args.torch_compile)
        self.gate_generator = torch.Generator()
        self.knowledge = KnowledgeState()
        self.ledger = open_ledger(args, names, self.accelerator.process_index)
        if calibration_dataset is not None:
            self._prepare_calibration(calibration_dataset)
        self._make_memory(0 if train_dataset is None else len(train_dataset))
        self._passes = KnowledgeCallback(self)
        self.add_callback(self._passes)

    def _make_memory(self, n_examples: int) -> None:
        """Make what `_remember` fills, if gate or alpha go by it."""
        if self.args.gate == "prior":
            from cogcalib.training.prior_labels import PriorLabels

            self.prior = PriorLabels(n_examples, self.accelerator.device)
        if self.args.alpha == "gap" and self.calibration_dataset is not None:
            from cogcalib.training.recent_answers import RecentAnswers

            rows, unit = self.calibration_dataset["labels"], self.args.unit_name
            self.recent = RecentAnswers(sum(len(unit_starts(labels, unit)) for labels in rows))

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
        numbers = inputs.pop(NUMBER, None)
        self._check_isolation(model)
        if self.aux_loss_enabled:
            inputs["output_router_logits"] = True
        tokens = supervised_tokens(inputs, self.args.unit_name, option_ids)
        plain = self.args.gate == "none" or not self.model.training
        # Nothing is drawn for an evaluation, so that it leaves the training as it is.
        gate = CLOSED if plain else self._gate(tokens, known, numbers)
        parts, aux_loss = self.runner.loss(
            model,
            inputs,
            tokens,
            penalty=PLAIN if plain else self.penalty,
            alpha=self.alpha,
            gate=gate,
            num_items_in_batch=num_items_in_batch,
            nll_reduction=self.args.nll_reduction_name,
        )
        self._judge(parts, tokens, numbers)
        self._record(inputs, parts, gate, aux_loss, num_items_in_batch)
        if self.model.training:
            self._remember(parts, tokens, gate, numbers)
        if self.ledger is not None and self.model.training:
            self.ledger.add(
                self.state.global_step,
                int(self.state.epoch or 0),
                numbers,
                tokens.units,
                parts,
                alpha=self.alpha,
                threshold=gate.threshold,
            )
        loss = self._scaled(parts.loss, aux_loss, num_items_in_batch)
        return (loss, self._outputs(model, inputs)) if return_outputs else loss

    @torch.no_grad()
    def _outputs(self, model: nn.Module, inputs: Mapping[str, Any]) -> Any:
        """Those with all the logits, which `compute_metrics` is given."""
        return model(**{name: value for name, value in inputs.items() if name != "labels"})

    def _remember(
        self, parts: FusedParts, tokens: SupervisedTokens, gate: Gate, numbers: Tensor | None
    ) -> None:
        """Keep what alpha and gate go by at later steps."""
        step = self.state.global_step
        if self.recent is not None:
            self.recent.add(step, own_answers(parts, tokens, self.args.nll_reduction_name))
        if self.prior is not None and gate.kind == "prior" and numbers is not None:
            of_units = numbers.to(tokens.units.example)[tokens.units.example]
            self.prior.note(of_units, parts.nll <= gate.threshold, step)

    def _gate(
        self, tokens: SupervisedTokens, known: Tensor | None, numbers: Tensor | None = None
    ) -> Gate:
        """The gate of this micro-batch: nothing in it waits for the NLLs."""
        threshold, units = self.knowledge.threshold, tokens.units
        labels = None if self.prior is None or numbers is None else self.prior.of(numbers)
        return Gate(
            "none" if self.in_style_phase else self.args.gate_name,
            # The gates that do without are the only ones without a threshold.
            threshold=math.nan if threshold is None else threshold.value,
            temperature=self.args.gate_temperature,
            rate=self.knowledge.rate,
            draws=torch.rand(len(units), generator=self.gate_generator),
            known=None if known is None else units.of_examples(known),
            prior=None if labels is None else units.of_examples(labels),
            curve=self.knowledge.curve,
            n_options=tokens.n_options() if self.penalty.support == "options" else None,
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

    @property
    def alpha(self) -> float:
        """Alpha in force: what was given, or where the controller has taken it."""
        given = self.args.alpha
        if isinstance(given, float | int):
            return given
        steps = self.knowledge.alpha_steps if given == "auto" else []
        return steps[-1].alpha if steps else self.args.initial_alpha

    def estimate_threshold(self) -> Threshold:
        """The threshold of the model as it stands now, the same on every rank.

        Raises:
            ValueError: If the trainer has no calibration data set.
        """
        return self.run_calibration_pass().threshold

    # ---- Logging ----

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as TRL does; the last row has the share of known examples at both ends, too."""
        if "train_runtime" in logs:
            logs |= self.knowledge.known_share.as_logged()
        super().log(logs, start_time)

    def _record(
        self,
        inputs: Mapping[str, Any],
        parts: FusedParts,
        gate: Gate,
        aux_loss: Tensor | None,
        num_items: Tensor | int | None,
    ) -> None:
        """Put TRL's metrics, and in training the method's, where `log` averages them."""
        sums = batch_sums(parts, num_items)
        sums["num_tokens"] = input_tokens(inputs)
        sums["n_known"] = gate.count_known(parts.nll)
        over_ranks = sum_over_ranks(self.accelerator, *sums.values()).tolist()
        totals = dict(zip(sums, over_ranks, strict=True))
        training = self.model.training
        if training:
            self._total_train_tokens += int(totals["num_tokens"]) // self._tp_size
        metrics = self._metrics["train" if training else "eval"]
        metrics["num_tokens"] = [self._total_train_tokens]
        for name, value in per_token(totals).items():
            metrics[name].append(value)
        if self.aux_loss_enabled and aux_loss is not None:
            metrics["aux_loss"].append(self.accelerator.gather(aux_loss.detach()).mean().item())
        if not training or self.args.gate == "none":
            return
        self.knowledge.opened += totals["gate_rate"]
        found = of_method(totals, self.knowledge, tuned=self.args.alpha == "auto")
        if "share_known" in found:
            self.knowledge.update_rate(found["share_known"])
        step, last = self.state.global_step, self.state.max_steps
        weight = self.alpha * totals["gate_rate"]
        self._passes.count_known(step, last, totals["n_known"], totals["n_units"], weight)
        for name, value in found.items():
            metrics[name].append(value)
