"""Verifiable tasks: procedural ones with their graders, and held-out conversations with one right answer."""

from __future__ import annotations

import warnings
from fractions import Fraction
from pathlib import Path

import pytest

from fusechat.errors import ConfigurationError
from fusechat.evaluation.evaluated_answers import (
    ARITHMETIC_TASKS,
    LITERAL_TASKS,
    SYMBOLIC_TASKS,
    may_be_graded,
)
from fusechat.evaluation.results import Remark
from fusechat.evaluation.tasks import TASK_TYPES, Grade, TaskSpec, is_exact, load_task
from fusechat.tables import Conversation, Message

with warnings.catch_warnings():
    warnings.simplefilter("ignore", SyntaxWarning)
    from reasoning_gym.factory import DATASETS

EXECUTED = LITERAL_TASKS | ARITHMETIC_TASKS | SYMBOLIC_TASKS

ALONE = sorted(set(DATASETS) - {"composite"})
"""`composite` is made of other tasks, which an option with a plain value cannot name."""


def test_every_type_of_the_map_loads() -> None:
    held_out = [Conversation(0, (Message("user", "q"), Message("assistant", "a")), "s")]
    for name in TASK_TYPES:
        assert load_task(TaskSpec("x", name, task="number_sorting", size=1), held_out).questions


def test_an_unknown_type_names_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"'Essay'.*\n.*ExactAnswer, ReasoningGym"):
        load_task(TaskSpec("x", "Essay"), [])


def test_equal_specs_give_equal_questions_and_other_seeds_others() -> None:
    spec = TaskSpec("sort", task="number_sorting", size=7, seed=3, config={"max_numbers": 5, "max_decimals": 0})
    first, again = load_task(spec, []), load_task(spec, [])
    assert len(first.questions) == 7
    assert list(first.questions) == list(again.questions)
    other = load_task(TaskSpec("sort", task="number_sorting", size=7, seed=50), [])
    assert [q.messages for q in other.questions] != [q.messages for q in first.questions]


@pytest.mark.parametrize("task", ["number_sorting", "basic_arithmetic", "chain_sum", "gcd", "n_queens", "countdown"])
def test_the_expected_answer_scores_one_and_nonsense_less(task: str) -> None:
    loaded = load_task(TaskSpec(task, size=3), [])
    for question in loaded.questions:
        assert loaded.grade(question, question.expected).score == 1.0
        assert loaded.grade(question, "nonsense").score < 0.5
        assert loaded.grade(question, "").score < 0.5


def test_a_grader_accepts_another_right_answer() -> None:
    loaded = load_task(TaskSpec("sort", task="number_sorting", size=1), [])
    (question,) = loaded.questions
    assert loaded.grade(question, question.expected.replace("'", '"').replace(" ", "")).score == 1.0


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (TaskSpec("x", task="number_sortin"), r"no task 'number_sortin'\n.*number_sorting"),
        (TaskSpec("x", task="number_sorting", config={"max_nmbers": 5}), r"no option 'max_nmbers'\n.*max_numbers"),
        (TaskSpec("x", task="number_sorting", config={"max_numbers": -5}), "refuses its options"),
    ],
)
def test_a_mistake_in_a_task_is_named(spec: TaskSpec, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_task(spec, [])


def test_a_grader_that_accepts_anything_is_replaced() -> None:
    halting = load_task(TaskSpec("game_of_life_halting", size=4), [])
    for question in halting.questions:
        assert halting.grade(question, question.expected).score == 1.0
        for wrong in ("nonsense", {"True": "False", "False": "True"}[question.expected]):
            assert halting.grade(question, wrong).score == 0.0
    coin = load_task(TaskSpec("coin_flip", size=6), [])
    for question in coin.questions:
        assert coin.grade(question, question.expected).score == 1.0
        assert coin.grade(question, str(Fraction(question.expected))).score == 1.0
        assert coin.grade(question, "0").score == 0.0


@pytest.mark.parametrize("task", ["graph_color", "boxnet"])
def test_a_task_without_one_right_answer_is_never_answered_exactly(task: str) -> None:
    loaded = load_task(TaskSpec(task, size=2), [])
    for question in loaded.questions:
        assert question.expected == ""
        assert not is_exact("", question.expected)


def test_an_answer_on_which_a_grader_fails_is_marked() -> None:
    task = load_task(TaskSpec("prime_factorization", size=1), [])
    assert task.grade(task.questions[0], "nonsense") == Grade(0.0, Remark.GRADER_FAILED)


ATTACKS = [
    "__import__('pathlib').Path({path!r}).touch()",
    "[__import__('pathlib').Path({path!r}).touch()]",
    "(lambda: __import__('pathlib').Path({path!r}).touch())()",
    "__import__('pathlib').Path({path!r}).touch()!",
    " \n open({path!r}, 'w')",
]


def test_no_grader_executes_a_models_text(tmp_path: Path) -> None:
    path = tmp_path / "executed"
    for name in ALONE:
        task = load_task(TaskSpec(name, size=1), [])
        for attack in ATTACKS:
            grade = task.grade(task.questions[0], attack.format(path=str(path)).strip())
            assert not path.exists(), name
            assert grade.score < 0.97  # partial credit for form, as time_intervals gives to anything
            assert name not in EXECUTED or "!" in attack or grade.remark is Remark.NOT_GRADED


def test_the_guard_is_needed(tmp_path: Path) -> None:
    """Handed over as it is, the first attack runs: the test above could fail."""
    path = tmp_path / "executed"
    dataset_type, config_type = DATASETS["spiral_matrix"]
    dataset = dataset_type(config_type(seed=0, size=1))
    dataset.score_answer(ATTACKS[0].format(path=str(path)), dataset[0])
    assert path.exists()


@pytest.mark.parametrize("name", sorted(EXECUTED))
def test_right_answers_pass_the_guard(name: str) -> None:
    task = load_task(TaskSpec(name, size=5), [])
    for question in task.questions:
        assert may_be_graded(name, question.expected)
        assert task.grade(question, question.expected).score == 1.0


@pytest.mark.parametrize(
    ("task", "answer", "allowed"),
    [
        ("puzzle24", "9**9**9", False),
        ("puzzle24", "9 ** (9 ** 9)", False),
        ("puzzle24", "2**99999", False),
        ("puzzle24", "999999999!", False),
        ("puzzle24", "(3 + 5) * 3", True),
        ("puzzle24", "factorial(9)", False),
        ("polynomial_multiplication", "6*x**3 - 2*x**2 + 1.5", True),
        ("polynomial_multiplication", "x.__class__", False),
        ("simple_integration", "x**2/2 + 3*exp(x)*sin(2*x) + C", True),
        ("simple_integration", "S('1')", False),
        ("binary_matrix", "[[0, 1], [1, 0]]", True),
        ("binary_matrix", "0 1\n1 0", True),
        ("binary_matrix", "[0] * 10**9", False),
        ("binary_matrix", "[i for i in (1, 2)]", False),
        ("string_insertion", "ABCDE", True),
        ("number_sorting", "anything()", True),
    ],
)
def test_what_the_guard_lets_through(task: str, answer: str, allowed: bool) -> None:
    assert may_be_graded(task, answer) is allowed


def conversation(row: int, skill: str, *contents: str) -> Conversation:
    roles = ("user", "assistant") * len(contents)
    return Conversation(row, tuple(Message(r, c) for r, c in zip(roles, contents, strict=False)), skill)


def test_exact_answers_come_from_the_skills_held_out_conversations() -> None:
    held_out = [
        conversation(0, "sort", "2 1", "1 2"),
        conversation(1, "chat", "hi", "hello"),
        conversation(2, "sort", "b a", "a b", "c b", " b c "),
        conversation(3, "sort", "unanswered"),
        conversation(4, "sort", "5 4", "4 5"),
    ]
    task = load_task(TaskSpec("sort", "ExactAnswer", skill="sort", size=2), held_out)
    assert [(q.index, q.messages[-1].content, q.expected) for q in task.questions] == [
        (0, "2 1", "1 2"),
        (1, "c b", " b c "),
    ]
    assert len(task.questions[1].messages) == 3
    assert task.grade(task.questions[1], "b c").score == 1.0
    assert task.grade(task.questions[1], "c b").score == 0.0


def test_a_skill_that_nobody_holds_out_is_named_with_those_that_are() -> None:
    with pytest.raises(ConfigurationError, match=r"skill 'sort'.*\n.*chat"):
        load_task(TaskSpec("x", "ExactAnswer", skill="sort"), [conversation(0, "chat", "hi", "hello")])
