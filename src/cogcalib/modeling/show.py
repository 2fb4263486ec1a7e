"""An encoded example and the label audit as text, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cogcalib.modeling.continuations import closed_turns, continuations
from cogcalib.modeling.labels import audit_labels
from cogcalib.modeling.prompts import render_completion
from cogcalib.records import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OPEN, CLOSE = "\u27e6", "\u27e7"
"""Around what is supervised."""


def show_example(example: Example, tokenizer: PreTrainedTokenizerBase) -> str:
    """Prompt and answer as text and as tokens, the supervised span in double brackets.

    A label of several tokens is shown as well: `show_audit` says what is wrong with it.

    Raises:
        ValueError: If the tokenizer has no end token, finds no tokens for the answer, or the
            preset has no wording for the question or needs a chat template the tokenizer lacks.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no end-of-sequence token (eos_token)")
    ((prompt_ids, (found,)),) = continuations([example], [[render_completion(example)]], tokenizer)
    if not found:
        raise ValueError(
            f"example {example.id!r}: the tokenizer finds no tokens for the answer "
            f"{example.answer!r} after the prompt"
        )
    turn = closed_turns([example], tokenizer)
    answer_ids = turn.get(0, [*found, tokenizer.eos_token_id])
    prompt, answer = (tokenizer.decode(ids) for ids in (prompt_ids, answer_ids))
    pieces = [tokenizer.convert_ids_to_tokens(ids) for ids in (prompt_ids, answer_ids)]
    spelled = ["|".join(map(str, tokens)) for tokens in pieces]
    return "\n".join(
        [
            f"example {example.id}, split {example.split}, prompt preset {example.preset}:",
            "",
            f"{prompt}{OPEN}{answer}{CLOSE}",
            "",
            f"{len(prompt_ids)} + {len(answer_ids)} tokens (supervised ids {answer_ids}):",
            f"{spelled[0]}|{OPEN}{spelled[1]}{CLOSE}",
        ]
    )


def show_audit(examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> str:
    """What `audit_labels` found, a line for each label.

    Raises:
        ValueError: If no example has options, or as `audit_labels`.
    """
    audit = audit_labels(examples, tokenizer)
    if audit is None:
        raise ValueError("examples have no options, so there are no labels to look at")
    lines = [f"\nlabels behind {audit.prompts} prompts:"]
    for label in audit.labels:
        tokens = "|".join(label.tokens)
        changes = "" if label.steady else ", other tokens behind other prompts"
        lines.append(f"  {label.letter}: {tokens} {list(label.ids)}, {label.form}{changes}")
    lines.append(
        "  by themselves the letters have the same tokens"
        if audit.alone
        else "  by themselves the letters have other tokens: never look them up alone"
    )
    if not (audit.single and audit.distinct):
        lines.append(
            "  labels must be single and distinct tokens: with this tokenizer the questions cannot "
            "be trained on, and only `cogcalib score --answer label` or `text` scores them"
        )
    return "\n".join(lines)
