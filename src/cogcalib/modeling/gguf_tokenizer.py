"""The tokenizer of a GGUF file: what transformers builds, split as llama.cpp splits text.

transformers leaves some pre-tokenizers out (5.23: that of SmolLM2, which takes digits one by one),
so that numbers would fall into other tokens than the model was trained on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Regex, Tokenizer, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerFast

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LLAMA3 = {"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"}
_QWEN2 = {"qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "stablelm2", "hunyuan", "megrez"}
_DIGITS = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}
_GPT2 = {"gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "exaone4", "gigachat", "a.x-4.0"}

_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""The pattern of Llama 3 and Qwen 2, which differ in the digits taken at once."""


def read_gguf_tokenizer(path: Path, fields: dict[str, Any]) -> PreTrainedTokenizerBase:
    """The tokenizer of a GGUF file.

    Args:
        path: The file.
        fields: Its metadata.

    Raises:
        ValueError: If the file has none, or one whose splitting of text is not known here.
    """
    kind = fields.get("tokenizer.ggml.model")
    before = fields.get("tokenizer.ggml.pre", "default")
    if kind not in ("gpt2", "llama"):
        raise ValueError(f"model {path} has the tokenizer {kind!r}; gpt2 and llama are read")
    splits = _pre_tokenizer(before) if kind == "gpt2" else None
    if kind == "gpt2" and splits is None:
        raise ValueError(
            f"model {path} splits text by the pre-tokenizer {before!r}, which is not known here; "
            "use the model's safetensors and its own tokenizer"
        )
    tokenizer: Any = AutoTokenizer.from_pretrained(
        str(path.parent), gguf_file=path.name, trust_remote_code=False, local_files_only=True
    )
    backend = _within_vocabulary(tokenizer)
    if splits is not None:
        backend.pre_tokenizer = splits
        if before in _LLAMA3:
            backend.model.ignore_merges = True
    # As llama.cpp has it where the file does not say.
    by_default = kind == "llama" or before in _LLAMA3
    bos = fields.get("tokenizer.ggml.add_bos_token", by_default)
    eos = fields.get("tokenizer.ggml.add_eos_token", False)
    named = {
        name: str(token)
        for name in ("bos_token", "eos_token", "unk_token", "pad_token")
        if (token := getattr(tokenizer, name)) and backend.token_to_id(str(token)) is not None
    }
    first = [named["bos_token"]] if bos and "bos_token" in named else []
    last = [named["eos_token"]] if eos and "eos_token" in named else []
    _frame(backend, first, last)
    # The class of an architecture would build its own splitting anew.
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, chat_template=tokenizer.chat_template, **named
    )


def _within_vocabulary(tokenizer: Any) -> Tokenizer:
    """Without the tokens that transformers adds by default and the model has no embedding of."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    size = tokenizer.backend_tokenizer.get_vocab_size(with_added_tokens=False)
    content["added_tokens"] = [each for each in content["added_tokens"] if each["id"] < size]
    built: Tokenizer = Tokenizer.from_str(json.dumps(content))
    return built


def _pre_tokenizer(name: str) -> Any:
    """As llama.cpp's table ``llm_tokenizer_bpe`` splits under this name; None if not known."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if name in _GPT2:
        return byte_level
    if name in _DIGITS:
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    if name not in _LLAMA3 and name not in _QWEN2:
        return None
    pattern = Regex(_SPLIT % ("{1,3}" if name in _LLAMA3 else ""))
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _frame(backend: Any, first: list[str], last: list[str]) -> None:
    """Put the first and the last token round a text, or leave them out."""
    backend.post_processor = TemplateProcessing(
        single=[*first, "$A", *last],
        pair=[*first, "$A", *last, *(f"{token}:1" for token in first), "$B:1", *last],
        special_tokens=[(token, backend.token_to_id(token)) for token in {*first, *last}],
    )
