"""Hashes of questions: of the text, whatever the tokens."""

from __future__ import annotations

import copy

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


def test_white_space_beside_special_tokens_makes_no_other_question() -> None:
    tokenizer = copy.deepcopy(build_tokenizer())  # the others' has no such token
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>"]})
    [bos, user] = [tokenizer.bos_token_id, tokenizer.convert_tokens_to_ids("<|user|>")]
    texts = ["Where?", " Where?", "\nWhere?", "\u00a0Where?"]
    plain = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    asked = [
        *([bos, *ids] for ids in plain),
        *([bos, user, *ids] for ids in plain),
        *([bos, user, *ids, user] for ids in plain),
    ]
    assert len({tuple(each) for each in asked}) == 12
    found = question_hashes(asked, tokenizer)
    assert [len(set(found[at : at + 4])) for at in (0, 4, 8)] == [1, 1, 1]
    assert len(set(found)) == 3
    assert question_hashes([], tokenizer) == []


def test_tokens_without_a_text_are_told_apart() -> None:
    tokenizer = build_tokenizer()
    size = len(tokenizer)
    [byte] = [i for i in range(size) if tokenizer.decode([i]) == "\ufffd"][:1]
    [other] = [i for i in range(byte + 1, size) if tokenizer.decode([i]) == "\ufffd"][:1]
    found = question_hashes([[size], [size + 1], [byte], [other], [1, 2], [12]], tokenizer)
    assert len(set(found)) == 6
