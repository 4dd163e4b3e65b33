"""Where copies of remote inputs lie on this machine."""

from __future__ import annotations

import os
from pathlib import Path


def cache_directory() -> Path:
    """Copies of remote inputs: $FUSECHAT_CACHE, else the user's cache directory."""
    base = os.environ.get("FUSECHAT_CACHE")
    return Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fusechat"
