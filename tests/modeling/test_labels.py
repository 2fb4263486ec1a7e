"""The audit of option labels, for the kinds of tokenizers that real models come with."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from cogcalib.modeling import audit_labels, encode_batch
from cogcalib.records import Example, Option


def unigram(words: list[str], scheme: str = "first") -> PreTrainedTokenizerFast:
    """As SentencePiece's unigram: a word carries its space, the text gets one in front."""
    characters = sorted({c for c in "Question:AnswerIcht?.\n BrazilFPoldWw\u2581" if c != " "})
    pieces = [("<unk>", 0.0), ("</s>", 0.0), *((c, -10.0) for c in characters)]
    pieces += [(word, -2.0) for word in words]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")


def test_byte_level_labels_carry_their_space(tokenizer_of, choice) -> None:
    audit = audit_labels([choice], tokenizer_of("gpt2"))
    assert [label.tokens for label in audit.labels] == [(f"\u0120{letter}",) for letter in "ABCD"]
    assert {label.form for label in audit.labels} == {"spaced"}
    assert (audit.single, audit.distinct, audit.steady) == (True, True, True)
    assert not audit.alone, "by itself A is another token than behind the prompt"


def test_sentencepiece_labels_are_the_same_by_themselves(choice) -> None:
    audit = audit_labels([choice], unigram(["\u2581A", "\u2581B", "\u2581C", "\u2581D"]))
    assert [label.tokens for label in audit.labels] == [(f"\u2581{letter}",) for letter in "ABCD"]
    assert audit.single
    assert audit.distinct
    assert audit.alone


def test_labels_of_several_tokens_are_told(choice) -> None:
    tokenizer = unigram(["\u2581B", "C", "D"])
    audit = audit_labels([choice], tokenizer)
    forms = {label.letter: label.form for label in audit.labels}
    assert forms == {"A": "several", "B": "spaced", "C": "several", "D": "several"}
    assert audit.labels[0].tokens == ("\u2581", "A")
    assert not audit.single
    with pytest.raises(ValueError, match="option letter 'A' must be one single token"):
        encode_batch([choice], tokenizer)


def test_the_audit_is_of_what_training_and_scoring_use(tokenizer, choice) -> None:
    (row,) = encode_batch([choice], tokenizer)
    audit = audit_labels([choice], tokenizer)
    assert tuple(label.ids[0] for label in audit.labels) == row.option_ids
    assert audit.single
    assert audit.distinct


def test_labels_that_are_words(tokenizer_of, choice) -> None:
    options = (Option("True", "x"), Option("False", "y"))
    example = replace(choice, options=options, answer="True")
    audit = audit_labels([example], tokenizer_of("gpt2"))
    assert [label.letter for label in audit.labels] == ["True", "False"]
    assert not audit.single


def test_questions_with_more_options_are_looked_at_too(tokenizer_of, choice) -> None:
    more = replace(choice, options=(*choice.options, Option("E", "Peru")))
    audit = audit_labels([choice] * 500 + [more], tokenizer_of("gpt2"), prompts=10)
    assert [label.letter for label in audit.labels] == list("ABCDE")
    assert audit.prompts == 11


def test_open_ended_questions_have_no_labels(tokenizer_of, choice, question) -> None:
    assert audit_labels([question], tokenizer_of("gpt2")) is None
    assert audit_labels([question, choice], tokenizer_of("gpt2")).prompts == 1


def test_bad_input_is_told(tokenizer_of, choice: Example) -> None:
    with pytest.raises(ValueError, match="prompts must be at least 1, got 0"):
        audit_labels([choice], tokenizer_of("gpt2"), prompts=0)
    with pytest.raises(ValueError, match=r"one prompt preset, got \['blob', 'cogcalib'\]"):
        audit_labels([choice, replace(choice, preset="blob")], tokenizer_of("gpt2"))
