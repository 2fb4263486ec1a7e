"""GGUF files for llama.cpp, written by its own converter."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cogcalib.artifacts import check_writable
from cogcalib.records import InputError, replacing

if TYPE_CHECKING:
    from transformers import PretrainedConfig

CONVERTER = "convert_hf_to_gguf.py"
VARIABLE = "COGCALIB_GGUF_CONVERTER"

_TYPES = {"float32": "f32", "float64": "f32", "float16": "f16", "bfloat16": "bf16"}
_READS_SOFTCAP = ("gemma2", "gemma3", "gemma3_text", "gemma4", "gemma4_text")
"""Architectures whose softcap llama.cpp reads; Gemma 3n's it takes for 30, whatever a file says."""


class ConversionError(RuntimeError):
    """What the converter said when it failed."""


def find_converter(given: Path | None = None) -> Path:
    """The converter: as given, by the environment, or on the search path.

    Args:
        given: Its path.

    Raises:
        InputError: If there is none, saying how to get it.
    """
    named = given or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    if named is not None:
        if not named.is_file():
            raise InputError(
                f"converter {named} is no file; give the path of llama.cpp's {CONVERTER}"
            )
        return named.absolute()
    found = shutil.which(CONVERTER)
    if found is None:
        # Not every package makes it executable.
        folders = os.environ.get("PATH", "").split(os.pathsep)
        found = next((f"{each}/{CONVERTER}" for each in folders if _holds(each)), None)
    if found is None:
        raise InputError(
            f"a GGUF file needs llama.cpp's {CONVERTER}, which is not on PATH; `git clone "
            "https://github.com/ggml-org/llama.cpp` has it, with its "
            "requirements/requirements-convert_hf_to_gguf.txt; give its path with --converter "
            f"or in {VARIABLE}"
        )
    return Path(found)


def _holds(folder: str) -> bool:
    return bool(folder) and Path(folder, CONVERTER).is_file()


def check_gguf(file: Path) -> None:
    """Check that a GGUF file can be written, before anything is computed.

    Raises:
        InputError: If something lies there already, it has another suffix, or nothing can be
            written there.
    """
    if file.suffix != ".gguf":
        raise InputError(f"--gguf {file}: its name must end in .gguf")
    if file.exists():
        raise InputError(f"--gguf {file} already exists; remove it or choose another name")
    check_writable(file)


def check_softcap(config: PretrainedConfig) -> None:
    """Check that llama.cpp reads the softcap that a temperature is put into.

    Args:
        config: Of a model; most have no softcap.

    Raises:
        InputError: If it takes a number of its own.
    """
    from cogcalib.modeling.final_logits import SOFTCAPS, first_number

    capped = first_number(config.get_text_config(), SOFTCAPS) is not None
    if capped and config.model_type not in _READS_SOFTCAP:
        raise InputError(
            f"llama.cpp does not read the softcap of {config.model_type} from a GGUF file, and a "
            "temperature changes it: leave --gguf out, or keep the temperature in "
            "calibration.json (--keep-temperature)"
        )


def write_gguf(folder: Path, file: Path, dtype: str, converter: Path) -> Path:
    """Convert a merged model to GGUF.

    The converter is the user's own copy, run by this Python without a shell and without access to
    the hub; the folder that it reads names no code to run.

    Args:
        folder: Of the model, with its tokenizer.
        file: To be written, whole or not at all.
        dtype: One of `cogcalib.records.DTYPES`, the format of the weights. llama.cpp has vectors,
            those of norms among them, in float32 whatever it is.
        converter: As `find_converter` gives it.

    Raises:
        ConversionError: If the converter fails.
    """
    with replacing(file) as temporary:
        words = [sys.executable, str(converter), str(folder), "--outfile", str(temporary)]
        done = subprocess.run(
            [*words, "--outtype", _TYPES[dtype]],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
        )
        if done.returncode or not temporary.stat().st_size:
            raise ConversionError(
                f"{converter.name} failed and wrote no GGUF: {_last_line(done.stderr)}; the merged "
                f"model in {folder} is whole"
            )
    return file


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
