from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cogcalib.scoring import exact_match, normalize_answer


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
    ],
)
def test_exact_match(prediction, accepted, right):
    assert exact_match(prediction, accepted) is right


@given(st.text())
def test_text_matches_itself_in_any_case_of_ascii_and_spacing(text):
    assert exact_match(f"  {text} ", [text])
    assert normalize_answer(text) == " ".join(normalize_answer(text).split())


@given(st.text(st.characters(max_codepoint=127)))
def test_normalization_is_idempotent(text):
    once = normalize_answer(text)
    assert normalize_answer(once) == once
    assert normalize_answer(text.upper()) == once
