"""`python -m tools.generated`: rebuilds every committed file that is made from code. Tests hold them to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tools.chart import chart_page, chart_readme, values_yaml
from tools.cli_reference import command_line_reference
from tools.crd import crd_yaml
from tools.fusejob_reference import fusejob_reference, merging_reference
from tools.reasons_reference import reasons_reference

ROOT = Path(__file__).resolve().parent.parent
REASONS = ROOT / "operator/fuse_operator/reconcile/reasons.py"
TRANSITIONS = ROOT / "operator/fuse_operator/reconcile/advance.py"
"""Read as text: the library imports nothing of the operator."""

FILES: Mapping[str, Callable[[], str]] = {
    "charts/fusechat/README.md": chart_readme,
    "charts/fusechat/files/fusejobs.fusechat.dev.yaml": crd_yaml,
    "charts/fusechat/values.yaml": values_yaml,
    "crds/fusejobs.fusechat.dev.yaml": crd_yaml,
    "docs/reference/chart.md": chart_page,
    "docs/reference/command-line.md": command_line_reference,
    "docs/reference/fusejob.md": fusejob_reference,
    "docs/reference/merging.md": merging_reference,
    "docs/reference/reasons.md": lambda: reasons_reference(REASONS.read_text("utf-8"), TRANSITIONS.read_text("utf-8")),
}
"""Path in the repository -> what it must hold."""


def main() -> None:
    """Writes them."""
    for path, text in FILES.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text(), "utf-8")
        print(path)


if __name__ == "__main__":
    main()
