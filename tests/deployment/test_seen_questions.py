"""Hashes of questions: of the text, whatever the tokens."""

from __future__ import annotations

from tiny_models import build_tokenizer

from cogcalib.deployment.seen_questions import question_hashes


def hashes(*texts: str) -> list[str]:
    tokenizer = build_tokenizer()
    return question_hashes([tokenizer(text)["input_ids"] for text in texts], tokenizer)


def test_white_space_and_accents_make_no_other_question() -> None:
    same = ["Où est Lyon?", "Où est Lyon? ", "Où  est Lyon?\n", "Ou\u0300 est Lyon?"]
    tokenizer = build_tokenizer()
    assert len({tuple(tokenizer(text)["input_ids"]) for text in same}) == len(same)
    assert len(set(hashes(*same))) == 1
    assert len(set(hashes("Où est Lyon?", "où est Lyon?", "Ou est Lyon?", "Oùest Lyon?"))) == 4


def test_tokens_without_a_text_are_told_apart() -> None:
    tokenizer = build_tokenizer()
    size = len(tokenizer)
    [byte] = [i for i in range(size) if tokenizer.decode([i]) == "\ufffd"][:1]
    [other] = [i for i in range(byte + 1, size) if tokenizer.decode([i]) == "\ufffd"][:1]
    found = question_hashes([[size], [size + 1], [byte], [other], [1, 2], [12]], tokenizer)
    assert len(set(found)) == 6
