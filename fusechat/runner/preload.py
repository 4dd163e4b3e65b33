"""What the fork server imports once for all stages that need torch. Importing starts no thread and opens no device."""

from __future__ import annotations

import pyarrow.parquet  # noqa: F401
import torch  # noqa: F401
import transformers.modeling_utils
import transformers.trainer  # noqa: F401
