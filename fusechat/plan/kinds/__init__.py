"""Kinds of stages, one module per kind: parameters, settings, how it is planned, what it needs.

A module here that defines `KIND` is a kind; its work is `run(context)` in the module that `KIND.module` names.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

from fusechat.plan.stages import StageKind


def _discovered() -> Mapping[str, StageKind]:
    """Every kind by its name, each after those whose outputs it may read; of those side by side the first by name."""
    modules = [importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    found: dict[str, StageKind] = {module.KIND.name: module.KIND for module in modules if hasattr(module, "KIND")}

    def depth(name: str) -> int:
        return 1 + max((depth(before) for before in found[name].after), default=0)

    return MappingProxyType({name: found[name] for name in sorted(found, key=lambda name: (depth(name), name))})


KINDS = _discovered()
"""Name -> kind, in the order of planning."""
