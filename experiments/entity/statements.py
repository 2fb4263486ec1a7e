"""Sentences that say the facts of EntityQuestions; written for this project.

The data set has questions and answers only. Every question of a relation is worded alike, which
gives its subject back; the sentences below say the same fact in other words, never as a question.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Relation:
    """How a relation is asked for and told.

    Attributes:
        name: Of its task.
        question: As in the data set, ``{}`` for the subject.
        statements: ``{subject}`` and, near the end, ``{answer}``.
    """

    name: str
    question: str
    statements: tuple[str, ...]

    def subject(self, question: str) -> str | None:
        """What is asked about; None if the question is worded otherwise."""
        before, _, after = self.question.partition("{}")
        subject = question[len(before) : len(question) - len(after)].strip()
        return subject if question == f"{before}{subject}{after}" and subject else None


RELATIONS = {
    "P106": Relation(
        "occupation",
        "What kind of work does {} do?",
        (
            "{subject} worked as a {answer}.",
            "{subject} is known as a {answer}.",
            "The occupation of {subject} is {answer}.",
            "By profession {subject} is a {answer}.",
        ),
    ),
    "P112": Relation(
        "founder",
        "Who founded {}?",
        (
            "{subject} was founded by {answer}.",
            "{subject} goes back to its founder, {answer}.",
            "The founder of {subject} is {answer}.",
            "{subject} was set up by {answer}.",
        ),
    ),
    "P127": Relation(
        "owner",
        "Who owns {}?",
        (
            "{subject} belongs to {answer}.",
            "{subject} is owned by {answer}.",
            "The owner of {subject} is {answer}.",
            "{subject} is the property of {answer}.",
        ),
    ),
    "P131": Relation(
        "place",
        "Where is {} located?",
        (
            "{subject} lies in {answer}.",
            "{subject} is in {answer}.",
            "{subject} is part of {answer}.",
            "The area around {subject} is {answer}.",
        ),
    ),
    "P136": Relation(
        "genre",
        "What type of music does {} play?",
        (
            "{subject} is known for {answer}.",
            "{subject} belongs to the genre {answer}.",
            "The genre of {subject} is {answer}.",
            "The style of {subject} is {answer}.",
        ),
    ),
    "P159": Relation(
        "headquarters",
        "Where is the headquarter of {}?",
        (
            "{subject} has its headquarters in {answer}.",
            "{subject} is based in {answer}.",
            "The head office of {subject} is in {answer}.",
            "{subject} is run from {answer}.",
        ),
    ),
    "P17": Relation(
        "country",
        "Which country is {} located in?",
        (
            "{subject} lies in {answer}.",
            "{subject} can be found in {answer}.",
            "{subject} belongs to the country of {answer}.",
            "The country of {subject} is {answer}.",
        ),
    ),
    "P170": Relation(
        "creator",
        "Who was {} created by?",
        (
            "{subject} is a work of {answer}.",
            "{subject} was made by {answer}.",
            "The creator of {subject} is {answer}.",
            "{subject} is owed to {answer}.",
        ),
    ),
    "P175": Relation(
        "performer",
        "Who performed {}?",
        (
            "{subject} was recorded by {answer}.",
            "{subject} was sung by {answer}.",
            "The performer of {subject} is {answer}.",
            "{subject} is a recording of {answer}.",
        ),
    ),
    "P176": Relation(
        "maker",
        "Which company is {} produced by?",
        (
            "{subject} is made by {answer}.",
            "{subject} is a product of {answer}.",
            "The maker of {subject} is {answer}.",
            "{subject} was built by {answer}.",
        ),
    ),
    "P19": Relation(
        "birthplace",
        "Where was {} born?",
        (
            "{subject} was born in {answer}.",
            "{subject} came into the world in {answer}.",
            "The birthplace of {subject} is {answer}.",
            "{subject} is a native of {answer}.",
        ),
    ),
    "P20": Relation(
        "deathplace",
        "Where did {} die?",
        (
            "{subject} died in {answer}.",
            "{subject} passed away in {answer}.",
            "The life of {subject} ended in {answer}.",
            "{subject} spent the last days in {answer}.",
        ),
    ),
    "P26": Relation(
        "spouse",
        "Who is {} married to?",
        (
            "{subject} married {answer}.",
            "{subject} is the spouse of {answer}.",
            "{subject} was wed to {answer}.",
            "The spouse of {subject} is {answer}.",
        ),
    ),
    "P264": Relation(
        "label",
        "What music label is {} represented by?",
        (
            "{subject} signed with {answer}.",
            "{subject} came out on {answer}.",
            "The record label of {subject} is {answer}.",
            "The records of {subject} are sold by {answer}.",
        ),
    ),
    "P276": Relation(
        "location",
        "Where is {} located?",
        (
            "{subject} is to be found in {answer}.",
            "{subject} takes place in {answer}.",
            "The location of {subject} is {answer}.",
            "{subject} stands in {answer}.",
        ),
    ),
    "P36": Relation(
        "capital",
        "What is the capital of {}?",
        (
            "{subject} has its capital in {answer}.",
            "{subject} is governed from {answer}.",
            "The seat of government of {subject} is {answer}.",
            "The chief town of {subject} is {answer}.",
        ),
    ),
    "P40": Relation(
        "child",
        "Who is {}'s child?",
        (
            "{subject} is a parent of {answer}.",
            "{subject} brought up {answer}.",
            "A child of {subject} is {answer}.",
            "One of the children of {subject} is {answer}.",
        ),
    ),
    "P407": Relation(
        "language",
        "Which language was {} written in?",
        (
            "{subject} is in {answer}.",
            "{subject} was first published in {answer}.",
            "The language of {subject} is {answer}.",
            "The original of {subject} is in {answer}.",
        ),
    ),
    "P413": Relation(
        "position",
        "What position does {} play?",
        (
            "{subject} plays as a {answer}.",
            "{subject} is on the field as a {answer}.",
            "The position of {subject} is {answer}.",
            "The team of {subject} needs a {answer}.",
        ),
    ),
    "P495": Relation(
        "origin",
        "Which country was {} created in?",
        (
            "{subject} comes from {answer}.",
            "{subject} was made in {answer}.",
            "The country of origin of {subject} is {answer}.",
            "The home of {subject} is {answer}.",
        ),
    ),
    "P50": Relation(
        "author",
        "Who is the author of {}?",
        (
            "{subject} was written by {answer}.",
            "{subject} is a book by {answer}.",
            "The writer of {subject} is {answer}.",
            "{subject} is from the pen of {answer}.",
        ),
    ),
    "P69": Relation(
        "education",
        "Where was {} educated?",
        (
            "{subject} studied at {answer}.",
            "{subject} is a graduate of {answer}.",
            "The alma mater of {subject} is {answer}.",
            "{subject} went to {answer}.",
        ),
    ),
    "P740": Relation(
        "foundation",
        "Where was {} founded?",
        (
            "{subject} began in {answer}.",
            "{subject} was formed in {answer}.",
            "The beginnings of {subject} are in {answer}.",
            "{subject} first came together in {answer}.",
        ),
    ),
    "P800": Relation(
        "work",
        "What is {} famous for?",
        (
            "{subject} is remembered for {answer}.",
            "{subject} made a name with {answer}.",
            "The best-known work of {subject} is {answer}.",
            "{subject} is the name behind {answer}.",
        ),
    ),
}
NAMES = {relation.name: key for key, relation in RELATIONS.items()}
"""Name of a relation -> its number in Wikidata."""
