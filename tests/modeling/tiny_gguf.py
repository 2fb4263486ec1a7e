"""Tiny random models written as GGUF files, with the tokenizer of Atlas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from gguf.quants import dequantize, quantize

from cogcalib.atlas.tokenizer import train_tokenizer

CORPUS = ["Question: In which country is Lyon? 12  34", "Answer: France", "Question: Peru?"] * 5
WIDTH, INNER, HEADS, KV_HEADS, LAYERS = 64, 96, 4, 2, 2


def write_tiny_gguf(
    path: Path,
    kind: GGMLQuantizationType = GGMLQuantizationType.F32,
    *,
    architecture: str = "llama",
    tied: bool = True,
    pre: str = "smollm",
    more: dict[str, Any] | None = None,
    extra: dict[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Write a model.

    Args:
        path: The file.
        kind: Number format of the matrices; vectors stay float32.
        architecture: As the header names it.
        tied: Without a head of its own.
        pre: Name of the pre-tokenizer.
        more: Further metadata: strings, ints and bools.
        extra: Further tensors.

    Returns:
        The tensors as they read back: dequantised, under their GGUF names.
    """
    backend = json.loads(train_tokenizer(CORPUS, 320).backend_tokenizer.to_str())
    vocabulary = sorted(backend["model"]["vocab"], key=backend["model"]["vocab"].get)
    writer = GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(5000.0)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(vocabulary)
    special = {each["content"] for each in backend["added_tokens"]}
    writer.add_token_types(
        [TokenType.CONTROL if each in special else TokenType.NORMAL for each in vocabulary]
    )
    writer.add_token_merges([" ".join(pair) for pair in backend["model"]["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    for key, value in (more or {}).items():
        add = {str: writer.add_string, bool: writer.add_bool, int: writer.add_uint32}[type(value)]
        add(key, value)
    read_back = {}
    for name, values in (_tensors(len(vocabulary), tied) | (extra or {})).items():
        if values.ndim == 1:
            writer.add_tensor(name, values)
            read_back[name] = values
            continue
        packed = quantize(values, kind)
        writer.add_tensor(name, packed, raw_dtype=kind)
        read_back[name] = dequantize(packed, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read_back


def _tensors(size: int, tied: bool) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (size, WIDTH)}
    for layer in range(LAYERS):
        of_layer = {
            "attn_norm": (WIDTH,),
            "attn_q": (WIDTH, WIDTH),
            "attn_k": (WIDTH * KV_HEADS // HEADS, WIDTH),
            "attn_v": (WIDTH * KV_HEADS // HEADS, WIDTH),
            "attn_output": (WIDTH, WIDTH),
            "ffn_norm": (WIDTH,),
            "ffn_gate": (INNER, WIDTH),
            "ffn_up": (INNER, WIDTH),
            "ffn_down": (WIDTH, INNER),
        }
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in of_layer.items()}
    shapes["output_norm.weight"] = (WIDTH,)
    if not tied:
        shapes["output.weight"] = (size, WIDTH)
    return {
        name: draw.normal(0, 0.2, shape).astype(np.float32) + (len(shape) == 1)
        for name, shape in shapes.items()
    }
