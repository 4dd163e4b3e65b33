"""The error tree. Every error that a user can cause or meet is one of these.

    FuseChatError                    exit code (sysexits.h)   retriable
    ├── UsageError                   64                       no
    ├── InvalidDataError             65                       no
    ├── MissingInputError            66                       no
    ├── AcceleratorOutOfMemoryError  71                       no
    ├── TemporaryError               75                       yes
    │   ├── InterruptedStageError    143 (128 + SIGTERM)  a checkpoint or part was saved first
    │   └── DamagedInputError        75  names the stage to run again
    ├── NoPermissionError            77                       no
    └── ConfigurationError           78                       no
        └── SpecError                78  every mistake of a job file at once

A message says what is wrong and where; `hint` says what to do about it. The command line prints both and no
traceback; `fusechat --debug` adds the traceback. Anything else that escapes is a defect of ours and exits 70.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

INTERNAL_ERROR_EXIT_CODE = 70
"""sysexits.h EX_SOFTWARE: an exception that is no FuseChatError."""


class FuseChatError(Exception):
    """Base of the tree: what happened, and the hint."""

    exit_code: int = INTERNAL_ERROR_EXIT_CODE
    retriable: bool = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(FuseChatError):
    """The command line itself is wrong."""

    exit_code = 64


class InvalidDataError(FuseChatError):
    """A dataset, model or stored file has content that cannot be used."""

    exit_code = 65


class MissingInputError(FuseChatError):
    """A file, model, dataset or bucket that was named does not exist."""

    exit_code = 66


class AcceleratorOutOfMemoryError(FuseChatError):
    """The accelerator, or the process, has too little memory for the settings."""

    exit_code = 71


class TemporaryError(FuseChatError):
    """The same command may succeed later; nothing is lost."""

    exit_code = 75
    retriable = True


class InterruptedStageError(TemporaryError):
    """SIGTERM or Ctrl-C: what was finished is saved, the next attempt goes on from there.

    The code is that of a process that SIGTERM ended, and no other error's: a cluster is told not to count it.
    """

    exit_code = 143


class DamagedInputError(TemporaryError):
    """A planned input is missing, truncated or altered. `stage` makes it; running that stage again restores it."""

    def __init__(self, message: str, *, stage: str, hint: str = "") -> None:
        super().__init__(message, hint=hint or f"Stage {stage} must run again; `fusechat run` does that by itself.")
        self.stage = stage


class NoPermissionError(FuseChatError):
    """Credentials are missing or refused."""

    exit_code = 77


class ConfigurationError(FuseChatError):
    """The job cannot work as it is written, whatever is retried."""

    exit_code = 78


@dataclass(frozen=True)
class SpecProblem:
    """One mistake in a job file."""

    path: str
    """Dotted path of the field, such as `spec.sources[1].name`; empty for the document itself."""
    message: str
    hint: str = ""
    line: int | None = None
    """1-based line in the file; None where the document did not come from a file."""


class SpecError(ConfigurationError):
    """A job file with one or more mistakes; all of them are in `problems`."""

    def __init__(self, problems: Sequence[SpecProblem], *, file: str = "") -> None:
        self.problems = tuple(problems)
        self.file = file
        super().__init__("\n".join(self._line(problem) for problem in self.problems))

    def _line(self, problem: SpecProblem) -> str:
        where = ":".join(str(part) for part in (self.file, problem.line) if part not in ("", None))
        head = ": ".join(part for part in (where, problem.path, problem.message) if part)
        return f"{head}\n    {problem.hint}" if problem.hint else head


PERMANENT_EXIT_CODES = tuple(
    sorted(
        error.exit_code
        for error in (
            UsageError,
            InvalidDataError,
            MissingInputError,
            AcceleratorOutOfMemoryError,
            NoPermissionError,
            ConfigurationError,
        )
    )
)
"""What a cluster does not try again. 70 is not among them: an exception that nobody foresaw (a collective that broke
with its network card, say) tells nothing of the next attempt, and attempts are counted."""
