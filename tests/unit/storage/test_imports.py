"""The storage layer is imported by commands that must answer at once."""

import json
import subprocess
import sys

HEAVY = {"boto3", "botocore", "huggingface_hub", "numpy", "pyarrow", "torch", "transformers"}


def test_nothing_heavy_is_imported():
    script = (
        "import json, sys, fusechat.storage.inputs, fusechat.storage.checkpoints; print(json.dumps(list(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True).stdout
    assert HEAVY.isdisjoint(json.loads(output))
