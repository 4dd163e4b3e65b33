"""Reading and comparing results costs no torch: the report's pod has none."""

from __future__ import annotations

import subprocess
import sys


def test_results_comparisons_tasks_and_contamination_import_neither_torch_nor_transformers() -> None:
    modules = ("answers", "bits_per_byte", "bootstrap", "compare", "contamination", "exact_answer", "results", "tasks")
    program = "import sys\n" + "".join(f"import fusechat.evaluation.{module}\n" for module in modules)
    program += "import fusechat.extraction.batches\nprint([m for m in ('torch', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
