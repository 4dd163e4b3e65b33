"""Python reads this when it starts with this directory in PYTHONPATH: see tests/standing_still.py.

The process is real, and so is the signal that it sends itself; what is replaced in it is one method, by itself and that
signal. Only the standard library is there yet.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from typing import Any

PLACE = json.loads(os.environ.get("TEST_STANDSTILL", "null"))


class _Finder:
    """Is asked for every module that is imported, and waits for one."""

    def find_spec(self, name: str, _path: Any, _target: Any = None) -> Any:
        if name != PLACE["module"]:
            return None
        sys.meta_path.remove(self)
        if not PLACE["method"]:
            _reached()
            return None
        spec = importlib.util.find_spec(name)
        assert spec is not None
        loader: Any = spec.loader
        execute = loader.exec_module

        def execute_and_arm(module: Any) -> None:
            execute(module)
            _arm(module)

        loader.exec_module = execute_and_arm
        return spec


def _arm(module: Any) -> None:
    owner, _, name = PLACE["method"].partition(".")
    found, left = getattr(module, owner), PLACE["call"]
    method = getattr(found, name)

    def armed(*arguments: Any, **named: Any) -> Any:
        nonlocal left
        result = method(*arguments, **named)
        left -= 1
        if left == 0:
            _reached()
        return result

    setattr(found, name, armed)


def _reached() -> None:
    if PLACE["rank"] is not None and os.environ.get("RANK") != str(PLACE["rank"]):
        return
    if PLACE["once"] is not None:
        try:
            os.close(os.open(PLACE["once"], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
    os.kill(os.getpid(), PLACE["signal"])


if PLACE is not None:
    sys.meta_path.insert(0, _Finder())
