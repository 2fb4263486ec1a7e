"""Few-shot prompts: shared, seeded, and never with the question itself."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from probe_world import build_choices, build_questions

from cogcalib.knowledge import draw_prompts
from cogcalib.modeling.shots import same_question
from cogcalib.tasks import load_task

QUESTIONS = build_questions()


@given(st.integers(0, 50), st.integers(1, 11))
def test_no_question_stands_among_its_own_shots(seed, shots):
    for prompt in draw_prompts(QUESTIONS, {}, ["t"], prompts=4, shots=shots, seed=seed)["t"]:
        for question in QUESTIONS:
            id, shown = prompt.before(question)
            keys = [same_question(shot) for shot in shown]
            assert same_question(question) not in keys
            assert len(set(keys)) == shots
            if question not in prompt.shots:
                assert (id, shown) == (str(prompt.number), prompt.shots)
            else:
                place = prompt.shots.index(question)
                assert id == f"{prompt.number}:{place}"
                assert shown[place] == prompt.reserve


@given(st.integers(0, 9))
def test_the_order_and_the_ids_of_the_pool_do_not_matter(seed):
    shuffled = random.Random(seed).sample(QUESTIONS, len(QUESTIONS))
    renamed = [replace(question, id=f"other-{question.id}") for question in shuffled]
    drawn = draw_prompts(QUESTIONS, {}, ["t"], seed=1)["t"]
    again = draw_prompts(renamed, {}, ["t"], seed=1)["t"]
    assert [[s.prompt for s in p.shots] for p in drawn] == [
        [s.prompt for s in p.shots] for p in again
    ]


def test_another_answer_to_the_question_is_still_the_question():
    other = replace(QUESTIONS[0], id="copy", answer="Gaul", prompt=f" {QUESTIONS[0].prompt} ")
    for prompt in draw_prompts([*QUESTIONS, other], {}, ["t"], shots=8)["t"]:
        shown = [" ".join(shot.prompt.split()) for shot in prompt.before(other)[1]]
        assert len(set(shown)) == 8
        assert QUESTIONS[0].prompt not in shown


def test_options_tell_questions_of_equal_wording_apart():
    first, second = (replace(c, prompt="Which makes more sense?") for c in build_choices(2))
    assert same_question(first) != same_question(second)
    assert same_question(first) == same_question(first.reordered([1, 0, 3, 2]))


def test_groups_draw_from_their_own():
    group_of = {q.id: "even" if i % 2 == 0 else "odd" for i, q in enumerate(QUESTIONS)}
    drawn = draw_prompts(QUESTIONS, group_of, ["even", "odd"], prompts=3, shots=3)
    for group, prompts in drawn.items():
        assert len(prompts) == 3
        for prompt in prompts:
            assert {group_of[shot.id] for shot in prompt.shots} == {group}
    assert draw_prompts(QUESTIONS, group_of, ["odd"], prompts=3, shots=3)["odd"] == drawn["odd"]


def test_without_shots_there_is_one_prompt():
    (prompt,) = draw_prompts(QUESTIONS, {}, ["t"], prompts=10, shots=0)["t"]
    assert prompt.before(QUESTIONS[0]) == ("0", ())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prompts": 0}, "prompts must be at least 1, got 0"),
        ({"shots": -1}, "shots must be at least 0, got -1"),
        ({"shots": 12}, "'t' has 12 to draw from"),
    ],
)
def test_wrong_numbers_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        draw_prompts(QUESTIONS, {}, ["t"], **values)


@pytest.mark.slow
def test_entity_questions_have_a_prompt_for_each_relation(shared_data):
    task = load_task("entity_questions", shared_data)
    groups = sorted({task.group_of[e.id] for e in task.splits["test"]})
    assert len(groups) == 24
    drawn = draw_prompts(task.splits["train"], task.group_of, groups, prompts=2)
    for group, prompts in drawn.items():
        for prompt in prompts:
            assert {task.group_of[shot.id] for shot in prompt.shots} == {group}
