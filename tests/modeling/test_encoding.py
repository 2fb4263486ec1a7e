from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from cogcalib.modeling import (
    IGNORED,
    encode,
    encode_batch,
    render_completion,
    render_prompt,
    surface_ids,
    to_dataset,
)
from cogcalib.records import Example, Option

# Without the one character that SentencePiece uses for the space and cannot tell from it.
TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters="\u2581"),
    min_size=1,
).filter(lambda text: bool(text.strip()))


def plain_tokens(tokenizer, text):
    """The text's own tokens as the tokenizer gives them, without an end token."""
    ids = tokenizer(text)["input_ids"]
    return ids[:-1] if ids[-1] == tokenizer.eos_token_id else ids


def lowering_tokenizer() -> PreTrainedTokenizerFast:
    """Whole words in lower case: the letters A and B, any other is unknown."""
    words = ["<unk>", "<|end|>", "answer:", "a", "b"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", unk_token="<unk>"
    )


def test_rendering(choice, question):
    assert render_prompt(choice) == (
        "Question: In which country is Lyon?\nA. Brazil\nB. France\nC. India\nD. Poland\nAnswer:"
    )
    assert render_completion(choice) == " B"
    assert render_prompt(question) == "Question: What is the capital of Poland?\nAnswer:"
    assert render_completion(question) == " Warsaw"


def test_encoded_example_is_prompt_answer_and_end_token(tokenizer, choice, question):
    for example in (choice, question):
        row = encode(example, tokenizer)
        prompt = plain_tokens(tokenizer, render_prompt(example))
        assert row.prompt_ids == prompt == row.input_ids[: len(prompt)]
        assert row.labels == [IGNORED] * len(prompt) + row.answer_ids
        assert row.answer_ids[-1] == tokenizer.eos_token_id
        text = tokenizer.decode(row.input_ids, skip_special_tokens=True)
        assert text == render_prompt(example) + render_completion(example)


def test_option_ids_are_the_letters_after_this_prompt(tokenizer, choice, question):
    row = encode(choice, tokenizer)
    assert encode(question, tokenizer).option_ids is None
    assert row.answer_ids == [row.option_ids[1], tokenizer.eos_token_id]
    assert len(set(row.option_ids)) == 4
    assert [tokenizer.decode([i]).strip() for i in row.option_ids] == ["A", "B", "C", "D"]
    for letter, token in zip("ABCD", row.option_ids, strict=True):
        assert encode(replace(choice, answer=letter), tokenizer).answer_ids[0] == token


def test_bos_is_what_the_tokenizer_adds_by_itself(tokenizer_of, question):
    with_bos, without = tokenizer_of("atlas"), tokenizer_of("gpt2")
    row = encode(question, with_bos)
    assert row.input_ids.count(with_bos.bos_token_id) == 1
    assert row.input_ids[0] == with_bos.bos_token_id
    text = render_prompt(question)
    assert encode(question, without).prompt_ids == without.encode(text, add_special_tokens=False)


def test_merge_across_the_boundary_is_undone(tokenizer_of, question):
    tokenizer = tokenizer_of("merging")
    example = replace(question, answer="B")
    prompt, whole = (
        tokenizer(text)["input_ids"]
        for text in (render_prompt(example), render_prompt(example) + render_completion(example))
    )
    assert whole[: len(prompt)] != prompt, "this tokenizer must merge, or nothing is tested"
    row = encode(example, tokenizer)
    assert row.prompt_ids == prompt
    assert row.answer_ids == [*tokenizer(" B")["input_ids"], tokenizer.eos_token_id]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(prompt=TEXT, answer=TEXT)
def test_prompt_is_a_prefix_and_answer_survives_for_any_text(tokenizer, prompt, answer):
    example = Example("x", "t", "test", prompt, None, answer)
    row = encode(example, tokenizer)
    assert row.prompt_ids == plain_tokens(tokenizer, render_prompt(example))
    text = tokenizer.decode(row.input_ids, skip_special_tokens=True)
    assert text == render_prompt(example) + render_completion(example)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
@given(texts=st.lists(TEXT, min_size=1, max_size=5))
def test_batch_equals_one_by_one(tokenizer, texts):
    examples = [Example(str(i), "t", "test", text, None, text) for i, text in enumerate(texts)]
    assert encode_batch(examples, tokenizer) == [encode(e, tokenizer) for e in examples]


def test_mixed_batch_equals_one_by_one(tokenizer, choice, question):
    examples = [choice, question, choice.reordered([3, 2, 1, 0])]
    assert encode_batch(examples, tokenizer) == [encode(e, tokenizer) for e in examples]
    assert encode_batch([], tokenizer) == []


def test_length_limit(tokenizer_of, question):
    tokenizer = tokenizer_of("gpt2")
    row = encode(question, tokenizer)
    length = len(row.input_ids)
    assert encode(question, tokenizer, max_length=length) == row
    with pytest.raises(ValueError, match=rf"'seat'.*take {length} tokens.*{length - 1}"):
        encode(question, tokenizer, max_length=length - 1)
    with pytest.raises(ValueError, match="'seat': the answer alone"):
        encode(question, tokenizer, max_length=len(row.answer_ids) - 1)


def test_tokenizer_without_end_token_is_refused(tokenizer_of, choice):
    backend = tokenizer_of("gpt2").backend_tokenizer
    with pytest.raises(ValueError, match="eos_token"):
        encode(choice, PreTrainedTokenizerFast(tokenizer_object=backend))


def test_letter_of_several_tokens_is_refused(tokenizer_of, choice):
    options = (Option("A", "x"), Option("Zq", "y"))
    example = replace(choice, options=options, answer="A")
    for call in (encode, lambda e, t: surface_ids([e], t)):
        with pytest.raises(ValueError, match="'lyon': option letter 'Zq' must be one single"):
            call(example, tokenizer_of("gpt2"))


def test_letters_that_share_a_token_are_refused(choice):
    tokenizer = lowering_tokenizer()
    options = (Option("b", "x"), Option("B", "y"))
    example = replace(choice, options=options, answer="B")
    with pytest.raises(ValueError, match="'lyon': option letters 'b' and 'B' share"):
        encode(example, tokenizer)


def test_letter_unknown_to_the_tokenizer_is_refused(choice):
    options = (Option("A", "x"), Option("Q", "y"))
    example = replace(choice, options=options, answer="A")
    with pytest.raises(ValueError, match="'lyon': option letter 'Q' must be"):
        encode(example, lowering_tokenizer())


def test_surface_ids_name_each_form_once(tokenizer, choice):
    (rows,) = surface_ids([choice], tokenizer)
    assert tuple(row[0] for row in rows) == encode(choice, tokenizer).option_ids
    assert all(len(set(row)) == len(row) for row in rows)
    spelled = [[tokenizer.decode([i]).strip() for i in row] for row in rows]
    assert [set(row) for row in spelled] == [{"A"}, {"B"}, {"C"}, {"D"}]


@pytest.mark.parametrize("kind", ["atlas", "gpt2", "llama3", "sentencepiece"])
def test_surface_ids_hold_both_forms(tokenizer_of, choice, kind):
    tokenizer = tokenizer_of(kind)
    (rows,) = surface_ids([choice], tokenizer)
    bare = tokenizer.convert_tokens_to_ids(["A", "B", "C", "D"])
    assert [row[1:] for row in rows] == [(token,) for token in bare]


def test_surface_ids_drop_equal_tokens(choice):
    options = (Option("A", "x"), Option("B", "y"))
    example = replace(choice, options=options, answer="A")
    assert surface_ids([example], lowering_tokenizer()) == [((3,), (4,))]


def test_surface_ids_need_options(tokenizer_of, question):
    with pytest.raises(ValueError, match="'seat' is open-ended"):
        surface_ids([question], tokenizer_of("gpt2"))


def test_dataset_columns(tokenizer_of, choice, question):
    tokenizer = tokenizer_of("atlas")
    rows = to_dataset([choice, choice], tokenizer, known={"lyon": True})
    row = encode(choice, tokenizer)
    assert rows.column_names == ["input_ids", "labels", "option_ids", "known"]
    assert rows[1] == {
        "input_ids": row.input_ids,
        "labels": row.labels,
        "option_ids": list(row.option_ids),
        "known": True,
    }
    assert to_dataset([choice, question], tokenizer).column_names == ["input_ids", "labels"]


def test_dataset_refuses_bad_input(tokenizer_of, choice, question):
    tokenizer = tokenizer_of("atlas")
    with pytest.raises(ValueError, match="examples is empty"):
        to_dataset([], tokenizer)
    with pytest.raises(ValueError, match="known misses 1 examples, the first is 'seat'"):
        to_dataset([choice, question], tokenizer, known={"lyon": False})
    with pytest.raises(ValueError, match="max_length is 5"):
        to_dataset([choice], tokenizer, max_length=5)
