"""The error tree: exit codes as sysexits.h has them, what is retried, how a job's mistakes read."""

import signal

import pytest

from fusechat import errors
from fusechat.errors import DamagedInputError, FuseChatError, SpecError, SpecProblem, UsageError

EXIT_CODES = {
    "UsageError": 64,
    "InvalidDataError": 65,
    "MissingInputError": 66,
    "AcceleratorOutOfMemoryError": 71,
    "TemporaryError": 75,
    "InterruptedStageError": 143,
    "DamagedInputError": 75,
    "NoPermissionError": 77,
    "ConfigurationError": 78,
    "SpecError": 78,
}


def tree() -> dict[str, type[FuseChatError]]:
    return {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, FuseChatError) and value is not FuseChatError
    }


def test_every_error_has_its_exit_code_and_is_drawn_in_the_tree() -> None:
    assert {name: error.exit_code for name, error in tree().items()} == EXIT_CODES
    assert errors.__doc__ is not None
    for name in EXIT_CODES:
        assert name in errors.__doc__


def test_exactly_the_temporary_errors_are_retried() -> None:
    retried = {name for name, error in tree().items() if error.retriable}
    assert retried == {"TemporaryError", "InterruptedStageError", "DamagedInputError"}


def test_no_other_error_has_the_code_of_a_process_that_was_told_to_stop() -> None:
    """A cluster does not count it: whatever else had it would be tried again for ever."""
    assert [name for name, code in EXIT_CODES.items() if code == 128 + signal.SIGTERM] == ["InterruptedStageError"]


def test_the_mend_follows_the_message() -> None:
    assert str(UsageError("There is no command `fuze`.", hint="Try `fusechat --help`.")).splitlines() == [
        "There is no command `fuze`.",
        "Try `fusechat --help`.",
    ]
    assert str(UsageError("Alone.")) == "Alone."


def test_a_damaged_input_names_the_stage_to_run_again() -> None:
    error = DamagedInputError("chunk 3 is truncated", stage="extract-solar")
    assert error.stage == "extract-solar"
    assert "Stage extract-solar must run again" in str(error)


@pytest.mark.parametrize(
    ("problem", "file", "text"),
    [
        (SpecProblem("spec.seed", "is bad", "Mend it.", 3), "job.yaml", "job.yaml:3: spec.seed: is bad\n    Mend it."),
        (SpecProblem("spec.seed", "is bad", "Mend it."), "", "spec.seed: is bad\n    Mend it."),
        (SpecProblem("", "is empty", line=1), "job.yaml", "job.yaml:1: is empty"),
        (SpecProblem("", "is empty"), "", "is empty"),
    ],
)
def test_a_mistake_of_a_job_reads_like_a_compilers(problem: SpecProblem, file: str, text: str) -> None:
    assert str(SpecError([problem], file=file)) == text


def test_all_mistakes_are_kept() -> None:
    problems = [SpecProblem("a", "x", line=1), SpecProblem("b", "y", line=2)]
    error = SpecError(problems, file="job.yaml")
    assert error.problems == tuple(problems)
    assert str(error).splitlines() == ["job.yaml:1: a: x", "job.yaml:2: b: y"]
