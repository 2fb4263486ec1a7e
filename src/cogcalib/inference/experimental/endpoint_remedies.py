"""Remedies for a server that gives too few log-probabilities, or none."""

from __future__ import annotations

from cogcalib.inference.experimental.endpoint_client import RefusedError

_TOO_MANY = ("greater", "less than", "exceed", "max", "at most", "too many", "too large", "between")
"""How servers say that fewer log-probabilities may be asked for."""

_ALLOW = (
    "Or let the server give more (vLLM: --max-logprobs), or use one that gives the "
    "log-probabilities of a prompt (vLLM and SGLang do)"
)

_UNGIVEN = (
    "Every answer is read off log-probabilities: use a server and a model that give them on "
    "/completions (vLLM, SGLang and llama.cpp do)"
)

REMEDY = (
    "Raise --top-logprobs, and what the server allows (vLLM: --max-logprobs), or use a server that "
    "gives the log-probabilities of a prompt (vLLM and SGLang do)"
)


def with_remedy(error: RefusedError, asked: int, own: int) -> RefusedError:
    """A refusal with what to do about it, where it speaks of log-probabilities.

    Args:
        error: As the server said it.
        asked: How many log-probabilities were asked for.
        own: How many the user asks for, ``--top-logprobs``.
    """
    text = str(error).lower()
    if "logprob" not in text:
        return error
    if not any(word in text for word in _TOO_MANY):
        return RefusedError(f"{error}. {_UNGIVEN}")
    if asked <= own:
        return RefusedError(f"{error}. {asked} were asked for: lower --top-logprobs. {_ALLOW}")
    return RefusedError(
        f"{error}. {asked} were asked for, more than --top-logprobs {own}, because a token that is "
        f"needed is not among the {own} most probable. {_ALLOW}"
    )
