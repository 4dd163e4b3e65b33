"""What libraries take for granted and a container lacks: a home, a name for the user, a directory for temporary files.

A pod's root file system is read-only and its user has no entry in /etc/passwd. With HOME and TMPDIR on a writable
volume everything that torch, Triton, DeepSpeed, numba and the hub's client keep lands there:

    HOME                    any writable directory; otherwise one below TMPDIR is taken
    TMPDIR                  where files on their way to storage go; made if it is not there
    XDG_CACHE_HOME          caches of libraries (default ~/.cache)
    FUSECHAT_CACHE          copies of remote inputs (default XDG_CACHE_HOME/fusechat)
    HF_HOME                 the hub client's cache (default XDG_CACHE_HOME/huggingface)
    USER                    not needed: it is set to `fusechat` where the user has no name
    TRITON_CACHE_DIR, TORCHINDUCTOR_CACHE_DIR, TORCH_EXTENSIONS_DIR, NUMBA_CACHE_DIR
                            not needed: below HOME, TMPDIR and XDG_CACHE_HOME by default
"""

from __future__ import annotations

import getpass
import os
import tempfile
from pathlib import Path

_NAME = "fusechat"


def ensure_home_and_tmp() -> None:
    """Gives this process, and those it starts, what is missing. On a usual machine nothing is."""
    _temporary_directory()
    _home()
    _user_name()


def _temporary_directory() -> None:
    named = os.environ.get("TMPDIR")
    if named and not Path(named).is_dir():
        Path(named).mkdir(parents=True, exist_ok=True)
        tempfile.tempdir = None  # it may have been looked for already


def _home() -> None:
    home = os.environ.get("HOME")
    if home and home != "/" and os.access(home, os.W_OK | os.X_OK):
        return
    own = Path(tempfile.gettempdir()) / f"{_NAME}-home-{os.getuid()}"
    own.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.environ["HOME"] = str(own)


def _user_name() -> None:
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = os.environ["LOGNAME"] = _NAME
