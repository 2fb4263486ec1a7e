"""An encoded example and the label audit as text, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cogcalib.modeling.encoding import encode
from cogcalib.modeling.labels import audit_labels
from cogcalib.records import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OPEN, CLOSE = "\u27e6", "\u27e7"
"""Around what is supervised."""


def show_example(example: Example, tokenizer: PreTrainedTokenizerBase) -> str:
    """Prompt and answer as text and as tokens, the supervised span in double brackets.

    Raises:
        ValueError: As `encode`.
    """
    row = encode(example, tokenizer)
    prompt, answer = (tokenizer.decode(ids) for ids in (row.prompt_ids, row.answer_ids))
    pieces = [tokenizer.convert_ids_to_tokens(ids) for ids in (row.prompt_ids, row.answer_ids)]
    spelled = ["|".join(map(str, tokens)) for tokens in pieces]
    return "\n".join(
        [
            f"example {example.id}, split {example.split}, prompt preset {example.preset}:",
            "",
            f"{prompt}{OPEN}{answer}{CLOSE}",
            "",
            f"{len(row.prompt_ids)} + {len(row.answer_ids)} tokens "
            f"(supervised ids {row.answer_ids}):",
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
        lines.append("  labels must be single and distinct tokens: this model cannot be asked so")
    return "\n".join(lines)
