"""Multiple choice: one forward pass, three readings of the model's confidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cogcalib.modeling.encoding import encode_batch, surface_ids
from cogcalib.records import Example, Prediction
from cogcalib.scoring.definitions import MULTIPLE_CHOICE, checked_temperatures
from cogcalib.scoring.forward import logits_by_batch, max_positions, padding_id, upcast


def score_multiple_choice(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    *,
    model_name: str,
    run: str,
    batch_size: int = 64,
    temperature: Mapping[str, float] | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Prediction]:
    """Predictions of a model as it stands: training flags and gradients are the caller's.

    Arguments as in `cogcalib.scoring.score`, which is what to call otherwise. With dropout left
    on, every call is one sample of MC dropout.
    """
    checked_temperatures(temperature, MULTIPLE_CHOICE)
    encodings = encode_batch(examples, tokenizer, max_positions(model))
    forms = surface_ids(examples, tokenizer)
    predictions: list[Prediction | None] = [None] * len(examples)
    done = 0
    for batch, logits in logits_by_batch(model, encodings, padding_id(tokenizer), batch_size):
        rows = _predict(
            torch.cat(logits),
            [examples[index] for index in batch],
            [forms[index] for index in batch],
            model_name=model_name,
            run=run,
            temperature=temperature,
        )
        for index, row in zip(batch, rows, strict=True):
            predictions[index] = row
        done += len(batch)
        if progress is not None:
            progress(done)
    return [row for row in predictions if row is not None]


def predict_from_logits(
    logits: NDArray[np.floating] | Tensor,
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    *,
    model_name: str,
    run: str,
    temperature: Mapping[str, float] | None = None,
) -> list[Prediction]:
    """Predictions read off logits at the answer position.

    Log-probabilities are logits too, so that an ensemble passes the log of its mean probability.

    Confidence, with p = softmax(logits / T) and each definition's own T:

    - ``vocab``: max_v p_v over the whole vocabulary.
    - ``options``: max_k p_k / sum_j p_j over the option letters' tokens, with leading space.
    - ``surface``: the same with p_k summed over the letter's surface forms ("A" and " A"); T
      divides the log of that sum.

    The answer is the arg max over the option tokens, whatever the definition; ``vocab`` shares it
    and its correctness, also where another token of the vocabulary is more likely still. `nll`
    (-log of the gold letter's share among the options) and `option_logprobs` (under the whole
    vocabulary) use the temperature of ``options``.

    Args:
        logits: Logits at the answer position, [n, V].
        examples: The n multiple-choice examples, in the same order.
        tokenizer: The tokenizer whose vocabulary the logits are over.
        model_name: Goes into `Prediction.model`.
        run: Goes into `Prediction.run`.
        temperature: Definition -> temperature its logits are divided by; 1 where missing.

    Raises:
        ValueError: If the shapes do not fit, an example is open-ended, or a temperature names no
            definition or is not positive.
    """
    values = upcast(torch.as_tensor(logits))
    if values.ndim != 2 or len(values) != len(examples):
        raise ValueError(
            f"logits must have shape [{len(examples)}, V] for {len(examples)} examples, "
            f"got {list(values.shape)}"
        )
    if not examples:
        return []
    return _predict(
        values,
        examples,
        surface_ids(examples, tokenizer),
        model_name=model_name,
        run=run,
        temperature=temperature,
    )


def _predict(
    logits: Tensor,
    examples: Sequence[Example],
    forms: Sequence[tuple[tuple[int, ...], ...]],
    *,
    model_name: str,
    run: str,
    temperature: Mapping[str, float] | None,
) -> list[Prediction]:
    scale = checked_temperatures(temperature, MULTIPLE_CHOICE)
    log_p = {t: (logits / t).log_softmax(-1) for t in {scale["vocab"], scale["options"], 1.0}}
    index, exists = _index(forms, logits.device)

    def spelled(temperature: float) -> Tensor:
        chosen = log_p[temperature].gather(1, index.flatten(1)).view(index.shape)
        return chosen.masked_fill(~exists, -torch.inf)

    options = spelled(scale["options"])[..., 0]
    share = options.log_softmax(-1)
    surface = spelled(1.0).logsumexp(-1) / scale["surface"]
    confidence = {
        "vocab": log_p[scale["vocab"]].amax(-1),
        "options": share.amax(-1),
        "surface": surface.log_softmax(-1).amax(-1),
    }
    values = {name: log.exp().clamp(max=1.0).tolist() for name, log in confidence.items()}
    chosen, shares, logs = share.argmax(-1).tolist(), share.tolist(), options.tolist()
    predictions = []
    for row, example in enumerate(examples):
        letters = [option.letter for option in example.options or ()]
        prediction = letters[chosen[row]]
        predictions.append(
            Prediction(
                id=example.id,
                task=example.task,
                split=example.split,
                answer=example.answer,
                prediction=prediction,
                correct=prediction == example.answer,
                nll=max(0.0, -shares[row][letters.index(example.answer)]),
                confidence={name: values[name][row] for name in MULTIPLE_CHOICE},
                option_logprobs=tuple(logs[row][: len(letters)]),
                model=model_name,
                run=run,
            )
        )
    return predictions


def _index(
    forms: Sequence[tuple[tuple[int, ...], ...]], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Token ids and which of them exist, both [n, most options, most forms]."""
    n_options = max(len(row) for row in forms)
    n_forms = max(len(letter) for row in forms for letter in row)
    index = torch.zeros(len(forms), n_options, n_forms, dtype=torch.long)
    exists = torch.zeros_like(index, dtype=torch.bool)
    for i, row in enumerate(forms):
        for j, letter in enumerate(row):
            index[i, j, : len(letter)] = torch.tensor(letter)
            exists[i, j, : len(letter)] = True
    return index.to(device), exists.to(device)
