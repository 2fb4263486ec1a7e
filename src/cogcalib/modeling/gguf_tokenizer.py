"""The tokenizer of a GGUF file: what transformers builds, split as llama.cpp splits text.

transformers leaves some pre-tokenizers out (5.23: that of SmolLM2, which takes digits one by one),
so that numbers would fall into other tokens than the model was trained on.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Regex, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LLAMA3 = [
    "llama3",
    "llama-v3",
    "llama-bpe",
    "falcon3",
    "falcon-h1",
    "pixtral",
    "midm-2.0",
    "lfm2",
    "jina-v5-nano",
]
_QWEN2 = ["qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "stablelm2", "hunyuan", "megrez"]
_DIGITS = [
    "smollm",
    "starcoder",
    "refact",
    "command-r",
    "codeshell",
    "exaone",
    "minerva-7b",
    "mellum2",
]
_GPT2 = [
    "gpt-2",
    "phi-2",
    "mpt",
    "olmo",
    "jais",
    "trillion",
    "exaone4",
    "gigachat",
    "a.x-4.0",
    "mellum",
    "modern-bert",
]

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
    backend = tokenizer.backend_tokenizer
    if splits is not None:
        backend.pre_tokenizer = splits
        if before in _LLAMA3:
            backend.model.ignore_merges = True
    # As llama.cpp has it where the file does not say.
    by_default = kind == "llama" or before in _LLAMA3
    _frame(
        tokenizer,
        bos=fields.get("tokenizer.ggml.add_bos_token", by_default),
        eos=fields.get("tokenizer.ggml.add_eos_token", False),
    )
    made: PreTrainedTokenizerBase = tokenizer
    return made


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


def _frame(tokenizer: Any, *, bos: bool, eos: bool) -> None:
    """Put the first and the last token round a text, or leave them out."""
    first = [tokenizer.bos_token] if bos and tokenizer.bos_token else []
    last = [tokenizer.eos_token] if eos and tokenizer.eos_token else []
    # A class that frames texts by these attributes must agree with the processor.
    tokenizer.add_bos_token, tokenizer.add_eos_token = bool(first), bool(last)
    tokenizer.init_kwargs |= {"add_bos_token": bool(first), "add_eos_token": bool(last)}
    special = [(token, tokenizer.convert_tokens_to_ids(token)) for token in {*first, *last}]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=[*first, "$A", *last],
        pair=[*first, "$A", *last, *(f"{token}:1" for token in first), "$B:1", *last],
        special_tokens=special,
    )
