from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cogcalib.tasks.match import exact_match, normalize_answer, token_f1


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("France", "france"),
        ("  The   Czech Republic. ", "czech republic"),
        ("an apple, a pear and the plum", "apple pear and plum"),
        ("U.S.A.", "usa"),
        ("Theatre", "theatre"),
        ("th.e end", "end"),
        ("$5 + 5%", "5 5"),
        ("“São Tomé” \u2013 Príncipe", "são tomé príncipe"),
        ("Sa\u0303o", "são"),
        ("\uff26rance\u00a0\u2160", "france i"),
        ("Guinea-Bissau", "guineabissau"),
        ("line\nbreak\ttab", "line break tab"),
        ("", ""),
        (" \n", ""),
        ("A", "a"),
        ("The", "the"),
        ("?!", "?!"),
    ],
)
def test_normalization(text, normalized):
    assert normalize_answer(text) == normalized


@pytest.mark.parametrize(
    ("prediction", "accepted", "right"),
    [
        ("the france!", ["France"], True),
        ("USA", ["United States", "U.S.A."], True),
        ("France, Germany", ["France"], False),
        ("", ["France"], False),
        ("", ["A"], False),
        ("the", ["A"], False),
        ("a", ["A"], True),
        ("France", [], False),
        ("", ["the Alps", ""], False),
        (" ", [" "], False),
    ],
)
def test_exact_match(prediction, accepted, right):
    assert exact_match(prediction, accepted) is right


@given(st.text())
def test_text_matches_itself_in_any_case_of_ascii_and_spacing(text):
    assert exact_match(f"  {text} ", [text]) is (normalize_answer(text) != "")
    assert normalize_answer(text) == " ".join(normalize_answer(text).split())


@given(st.text(st.characters(max_codepoint=127)))
def test_normalization_is_idempotent(text):
    once = normalize_answer(text)
    assert normalize_answer(once) == once
    assert normalize_answer(text.upper()) == once


@pytest.mark.parametrize(
    ("prediction", "accepted", "f1"),
    [
        ("the Czech Republic", ["Czech Republic"], 1.0),
        ("Czech", ["Czech Republic"], 2 / 3),
        ("New York City", ["York", "New York"], 4 / 5),
        ("New New York", ["New York"], 4 / 5),
        ("Lima", ["Peru"], 0.0),
        ("", ["Peru"], 0.0),
        ("", [""], 0.0),
        ("Peru", [], 0.0),
    ],
)
def test_token_f1(prediction, accepted, f1):
    assert token_f1(prediction, accepted) == pytest.approx(f1)


@given(words := st.lists(st.sampled_from(["x", "y", "z"]), max_size=6), words)
def test_f1_is_a_symmetric_fraction_and_one_for_the_same_words(one, other):
    said, wanted = " ".join(one), " ".join(other)
    value = token_f1(said, [wanted])
    assert value == token_f1(wanted, [said])
    assert 0 <= value <= 1
    assert (value == 1) == (sorted(one) == sorted(other) != [])
