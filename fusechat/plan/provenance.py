"""The machine and the libraries that made an output, and where those of several outputs differ.

They are in no digest: equal digests are equal parameters and inputs. The bytes are equal too where all of this is;
elsewhere floats may be rounded otherwise. What is there is found out by `fusechat.worker.detection`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from fusechat.plan.values import stage_value


@stage_value
class Environment:
    """What may change the last bits of a result."""

    isa: str
    """Architecture and the widest vector instructions, such as `x86-64 avx2`."""
    blas: str
    """NumPy's, with its version; torch brings its own."""
    torch: str | None
    """Version installed; None where there is none."""
    python: str
    fusechat: str
    accelerator: str | None
    """Name; `none` where the stage asked for one and saw none; None where it asked for none."""


EQUAL_DIGESTS = (
    "equal digests are equal parameters and inputs, and equal bytes where instruction set, BLAS, torch and accelerator "
    "are equal too"
)
"""What a digest promises, for reports."""
_COMPARED = {"isa": "instruction sets", "blas": "BLAS", "torch": "torch versions", "accelerator": "accelerators"}


def mixtures(environments: Mapping[str, Iterable[Environment]]) -> list[str]:
    """A sentence for each part in which the environments, by the stages made under them, differ."""
    return [sentence for name in _COMPARED if (sentence := _mixture(name, environments))]


def _mixture(name: str, environments: Mapping[str, Iterable[Environment]]) -> str:
    stages: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for stage, made in environments.items():
        for environment in made:
            if value := getattr(environment, name):
                stages[value][stage] = None
    if len(stages) < 2:
        return ""
    listed = "; ".join(f"{value}: {', '.join(names)}" for value, names in sorted(stages.items()))
    return f"Stages ran under different {_COMPARED[name]} ({listed}): made anew under one, bytes may differ."
