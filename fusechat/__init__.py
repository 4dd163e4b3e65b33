"""FuseChat: knowledge fusion of chat models, from one FuseJob (arXiv 2402.16107).

What a program uses is here, and imported when it is first asked for:

    load_job, plan_job, run             a job file; its plan; everything that is missing
    load_conversations, extract, align  one step alone, on conversations of your own
    merge, evaluate                     models in directories
    ChatTokenizer                       a model's tokenizer and chat template
    errors                              every error, with its exit code and a hint

`fusechat.plan` is the package of plans; the function is `plan_job`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fusechat.version import __version__

if TYPE_CHECKING:
    from fusechat import errors
    from fusechat.chat.render import ChatTokenizer
    from fusechat.library import align, evaluate, extract, load_conversations, load_job, plan_job, run
    from fusechat.merging.merge import merge

__all__ = [
    "ChatTokenizer",
    "__version__",
    "align",
    "errors",
    "evaluate",
    "extract",
    "load_conversations",
    "load_job",
    "merge",
    "plan_job",
    "run",
]

_LIBRARY = ("align", "evaluate", "extract", "load_conversations", "load_job", "plan_job", "run")
_PLACES = {"ChatTokenizer": "fusechat.chat.render", "merge": "fusechat.merging.merge"} | dict.fromkeys(
    _LIBRARY, "fusechat.library"
)
"""Name -> module that has it."""


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    if name == "errors":
        return importlib.import_module("fusechat.errors")
    raise AttributeError(f"module 'fusechat' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
