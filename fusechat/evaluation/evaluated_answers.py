"""Keeps a model's text away from graders that would execute it.

Some of reasoning-gym's graders hand an answer to Python's `eval`, others to sympy's `parse_expr`, which does the same.
A model comes from anywhere, and its text could then do anything. Answers to those tasks are let through only when they
are plain data or plain arithmetic, which every right answer is.
"""

from __future__ import annotations

import ast
import re

LITERAL_TASKS = frozenset({"binary_matrix", "n_queens", "spiral_matrix", "string_insertion"})
"""Their graders call `eval` on an answer that is not the expected text, in case it is a Python list."""

ARITHMETIC_TASKS = frozenset({"countdown", "puzzle24"})
SYMBOLIC_TASKS = frozenset({"intermediate_integration", "polynomial_multiplication", "simple_integration"})

_LONGEST_EXPRESSION = 400
_FUNCTIONS = "sin|cos|tan|exp|log|ln|sqrt|asin|acos|atan|sinh|cosh|tanh|sec|csc|cot"
_NUMBER = r"\d{1,18}(?:\.\d{0,18})?|\.\d{1,18}"
_ARITHMETIC = re.compile(rf"(?:{_NUMBER}|[-+*/(),\s])*")
_SYMBOLIC = re.compile(rf"(?:{_NUMBER}|(?<![A-Za-z\d_])(?:{_FUNCTIONS}|[A-Za-z])(?![A-Za-z\d_])|[-+*/(),\s])*")
_POWER = re.compile(r"\*\s*\*")
_SMALL_POWER = re.compile(r"\*\*\s*(?:[A-Za-z]\b|\(?\s*[-+]?\d{1,2}\b)")
"""A letter or a number below 100; a tower such as 9**9**9 would never end."""


def may_be_graded(task: str, answer: str) -> bool:
    """Whether the grader of `task` can be given `answer`, stripped, without running a program in it."""
    if task in LITERAL_TASKS:
        return _is_data(answer)
    if task in ARITHMETIC_TASKS:
        return _is_expression(answer, _ARITHMETIC)
    if task in SYMBOLIC_TASKS:
        return _is_expression(answer, _SYMBOLIC)
    return True


def _is_data(answer: str) -> bool:
    try:
        body = ast.parse(answer, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return True  # `eval` cannot read it either
    if isinstance(body, ast.Name):
        return True
    try:
        ast.literal_eval(body)
    except (ValueError, TypeError, RecursionError, MemoryError):
        return False
    return True


def _is_expression(answer: str, allowed: re.Pattern[str]) -> bool:
    if len(answer) > _LONGEST_EXPRESSION or not allowed.fullmatch(answer):
        return False
    powers = _POWER.findall(answer)
    chained = re.search(r"\*\s*\*[^-+*/]*\*\s*\*", answer)
    return len(_SMALL_POWER.findall(answer)) == len(powers) and not chained
