"""Read a FuseJob from a file, with every mistake at once."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from fusechat.errors import MissingInputError, NoPermissionError, SpecError, SpecProblem
from fusechat.spec import fields
from fusechat.spec.document import Document, dotted, read_documents, too_large
from fusechat.spec.document import Path as Keys
from fusechat.spec.job import API_VERSION, KIND, FuseJob
from fusechat.spec.mistakes import Mistakes
from fusechat.spec.repair import repaired
from fusechat.spec.rules import CLUSTER_RULES, RULES, Broken, Rule

ON_A_CLUSTER = (*RULES, *CLUSTER_RULES)
"""Every rule by which a cluster admits a job."""
STATUS: Keys = ("status",)
"""Written by the operator, not by people; ignored, so that `kubectl get -o yaml` gives a job file."""


@dataclass(frozen=True)
class LoadedJob:
    """A valid job and where it came from."""

    job: FuseJob
    file: str
    """Name for messages: the path as given, or `<stdin>`."""
    base: Path
    """Absolute directory that the job's relative paths start from."""


def load_job(path: Path | Literal["-"], *, rules: Sequence[Rule] = RULES) -> LoadedJob:
    """Read a job file, or standard input for `-`; `ON_A_CLUSTER` for the rules that a cluster has. Raises SpecError
    with every mistake, MissingInputError, NoPermissionError."""
    if path == "-":
        return LoadedJob(parse_job(sys.stdin.read(), "<stdin>", rules=rules), "<stdin>", Path.cwd())
    path = Path(path)
    return LoadedJob(parse_job(_text(path), str(path), rules=rules), str(path), path.absolute().parent)


def parse_job(text: str, file: str, *, rules: Sequence[Rule] = RULES) -> FuseJob:
    """The one FuseJob of a YAML or JSON text. Raises SpecError with every mistake; `file` is the name it uses."""
    return validated(_the_job(read_documents(text, file), file), file, rules=rules)


def broken_on_a_cluster(job: FuseJob) -> list[SpecProblem]:
    """What a cluster would refuse of a job that is valid on a laptop."""
    found = [broken for rule in CLUSTER_RULES for broken in rule.check(job.spec)]
    return [SpecProblem(dotted(broken.path), broken.message, broken.hint) for broken in found]


def validated(document: Document, file: str = "", *, rules: Sequence[Rule] = RULES) -> FuseJob:
    """The job that a document describes. Raises SpecError with every mistake, sorted by line."""
    if problem := too_large(document.value):
        raise _spec_error([*document.problems, problem], file)
    value = _as_the_cluster_prunes(document.value)
    try:
        job = FuseJob.model_validate(value, by_alias=True, by_name=False)
    except ValidationError as error:
        mistakes = Mistakes(document)
        problems = mistakes.problems(error)
        problems += _broken_beside(value, document, mistakes.suggested, rules)
        raise _spec_error([*document.problems, *problems], file) from None
    problems = [_problem(broken, document) for rule in rules for broken in rule.check(job.spec)]
    if problems or document.problems:
        raise _spec_error([*document.problems, *problems], file)
    return job


def _broken_beside(value: Any, document: Document, meant: Collection[Keys], rules: Sequence[Rule]) -> list[SpecProblem]:
    """Rules broken by the parts of an invalid job that are valid; `meant`: fields that misspelt keys stand for."""
    rest = repaired(value, meant)
    if rest is None:
        return []
    found = [(rule, broken) for rule in rules for broken in rule.check(rest.spec)]
    return [_problem(broken, document) for rule, broken in found if not rest.concerns(rule, broken)]


def _problem(broken: Broken, document: Document) -> SpecProblem:
    return SpecProblem(dotted(broken.path), broken.message, broken.hint, document.line(broken.path))


def _spec_error(problems: Sequence[SpecProblem], file: str) -> SpecError:
    return SpecError(sorted(problems, key=lambda problem: problem.line or 0), file=file)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: there is no such job file", hint="Give the path of a FuseJob.") from error
    except IsADirectoryError as error:
        raise MissingInputError(f"{path}: is a directory", hint="Give the path of a FuseJob in it.") from error
    except PermissionError as error:
        raise NoPermissionError(f"{path}: may not be read", hint="Check the file's permissions.") from error
    except UnicodeDecodeError as error:
        raise SpecError([SpecProblem("", "is not UTF-8 text", "Save the file as UTF-8.")], file=str(path)) from error


def _the_job(documents: list[Document], file: str) -> Document:
    """The one FuseJob among a file's documents."""
    if len(documents) == 1:
        return documents[0]
    jobs = [d for d in documents if isinstance(d.value, Mapping) and d.value.get("kind") == KIND]
    if len(jobs) == 1:
        return jobs[0]
    raise SpecError([_not_one_job(documents, jobs)], file=file)


def _not_one_job(documents: list[Document], jobs: list[Document]) -> SpecProblem:
    if jobs:
        lines = ", ".join(str(job.line(())) for job in jobs)
        return SpecProblem("", f"holds {len(jobs)} FuseJobs, in lines {lines}", "Keep one a file.", jobs[1].line(()))
    hint = f"A job begins with `apiVersion: {API_VERSION}` and `kind: {KIND}`."
    return SpecProblem("", f"holds no {KIND}" if documents else "is empty", hint, 1)


def _as_the_cluster_prunes(value: Any, path: Keys = ()) -> Any:
    """Without status, and without the empty values of known fields: they mean the default."""
    if isinstance(value, Mapping):
        model = fields.object_at(path)
        return {
            key: _as_the_cluster_prunes(item, (*path, key))
            for key, item in value.items()
            if not (item is None and (model is None or key in fields.keys(model))) and (*path, key) != STATUS
        }
    if isinstance(value, list):
        return [_as_the_cluster_prunes(item, (*path, i)) for i, item in enumerate(value)]
    return value
