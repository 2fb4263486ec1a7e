"""Multiple choice: one forward pass, three readings of the model's confidence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cogcalib.inference.batching import by_length
from cogcalib.inference.forward import Reader, max_positions, padding_id, upcast
from cogcalib.modeling.encoding import surface_ids
from cogcalib.records import Example, Prediction
from cogcalib.scoring.definitions import MULTIPLE_CHOICE
from cogcalib.scoring.option_letters import Forms, encode_choices
from cogcalib.scoring.settings import DEFAULTS, ScoreSettings


def score_multiple_choice(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    settings: ScoreSettings = DEFAULTS,
) -> list[Prediction]:
    """Predictions of a model as it stands: training flags and gradients are the caller's.

    As `cogcalib.scoring.score`, which is what to call otherwise. With dropout left on, every call
    is one sample of MC dropout.
    """
    settings.temperatures(MULTIPLE_CHOICE)
    choices = encode_choices(examples, tokenizer, max_positions(model), settings.shots)
    reader = Reader(
        model,
        [choice.prompt_ids for choice in choices],
        [1] * len(choices),
        padding_id(tokenizer),
        share=settings.share_prefix,
    )

    def work(batch: list[int]) -> list[Prediction]:
        forms = [choices[index].forms for index in batch]
        return _predict(reader.logits(batch), [examples[i] for i in batch], forms, settings)

    return by_length(reader.lengths, work, settings, model.device)


def predict_from_logits(
    logits: NDArray[np.floating] | Tensor,
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    settings: ScoreSettings = DEFAULTS,
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
        settings: Names and temperatures.

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
    return _predict(values, examples, surface_ids(examples, tokenizer), settings)


def _predict(
    logits: Tensor, examples: Sequence[Example], forms: Sequence[Forms], settings: ScoreSettings
) -> list[Prediction]:
    scale = settings.temperatures(MULTIPLE_CHOICE)
    index, exists = _index(forms, logits.device)
    scaled = {t: logits if t == 1 else logits / t for t in {*scale.values(), 1.0}}
    top, rest = {}, {}
    for t, values in scaled.items():
        first = values.max(-1)
        # Apart from the largest: next to it float32 loses what is below 6e-8 of it.
        rest[t] = _double(values.scatter(1, first.indices[:, None], -torch.inf).logsumexp(-1))
        top[t] = _double(first.values)
    missing = ~exists.cpu()

    def spelled(t: float) -> Tensor:
        chosen = _double(scaled[t].gather(1, index.flatten(1))).view(index.shape)
        chosen = chosen - torch.logaddexp(top[t], rest[t])[:, None, None]
        return chosen.masked_fill(missing, -torch.inf)

    options = spelled(scale["options"])[..., 0]
    share = options.log_softmax(-1)
    surface = spelled(1.0).logsumexp(-1) / scale["surface"]
    confidence = {
        "vocab": -torch.log1p((rest[scale["vocab"]] - top[scale["vocab"]]).exp()),
        "options": share.amax(-1),
        "surface": surface.log_softmax(-1).amax(-1),
    }
    fractions = {name: log.exp().clamp(max=1.0).tolist() for name, log in confidence.items()}
    return choose(
        examples,
        settings,
        share.tolist(),
        options.tolist(),
        [{name: fractions[name][row] for name in MULTIPLE_CHOICE} for row in range(len(examples))],
    )


def choose(
    examples: Sequence[Example],
    settings: ScoreSettings,
    share: Sequence[Sequence[float]],
    logprobs: Sequence[Sequence[float]],
    confidence: Sequence[dict[str, float]],
) -> list[Prediction]:
    """Predictions from each question's log shares, the largest of which is the answer.

    Args:
        examples: Multiple-choice examples.
        settings: Names.
        share: Log of each option's share among the options; more than there are options is ignored.
        logprobs: Log-probability of each option, likewise.
        confidence: Definition -> fraction.
    """
    predictions = []
    for row, example in enumerate(examples):
        letters = [option.letter for option in example.options or ()]
        shares = share[row][: len(letters)]
        prediction = letters[max(range(len(letters)), key=shares.__getitem__)]
        predictions.append(
            Prediction(
                id=example.id,
                task=example.task,
                split=example.split,
                answer=example.answer,
                prediction=prediction,
                correct=prediction == example.answer,
                nll=max(0.0, -shares[letters.index(example.answer)]),
                confidence=confidence[row],
                option_logprobs=tuple(logprobs[row][: len(letters)]),
                model=settings.model_name,
                run=settings.run,
            )
        )
    return predictions


def _double(values: Tensor) -> Tensor:
    """A few values in float64, which not every device has."""
    return values.cpu().double()


def _index(forms: Sequence[Forms], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids, 0 where there is none, and which exist, both [n, most options, most forms]."""
    n_options = max(len(row) for row in forms)
    n_forms = max(len(letter) for row in forms for letter in row)
    none = [-1] * n_forms
    index = torch.tensor(
        [
            [[*letter, *none[len(letter) :]] for letter in row] + [none] * (n_options - len(row))
            for row in forms
        ],
        device=device,
    )
    return index.clamp(min=0), index >= 0
