"""Before torchrun starts on a node of a gang: its master must be there.

Pods of one Job start minutes apart, and a node's own preparations (a model to download, targets to select) take more or
less time than the master's; torch's clients give up after a minute. So every other node waits here until the master's
torchrun listens, and the master until its own name resolves.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from enum import Enum

from fusechat.errors import TemporaryError, UsageError
from fusechat.gang.torchrun import JOIN_SECONDS, Gang

PATIENCE = "FUSECHAT_GANG_WAIT_SECONDS"
"""Environment: how long nothing may be seen of the master."""
DEFAULT_PATIENCE = 900.0
ShowProgress = Callable[..., None]
_PAUSE = 1.0
_CONNECT_SECONDS = 5.0


class Sight(Enum):
    """What is seen of the master."""

    NOTHING = "its name does not resolve, or nothing answers there"
    HOST = "it is there, but its torchrun is not"
    LISTENING = "its torchrun listens"


def meet(gang: Gang, progress: ShowProgress) -> None:
    """Returns when torchrun may start. TemporaryError (75) when the master was not seen for $FUSECHAT_GANG_WAIT_SECONDS
    (default 900), or has been preparing itself for over an hour."""
    if gang.nodes == 1:
        return
    enough = Sight.HOST if gang.node == 0 else Sight.LISTENING
    look = _resolves if gang.node == 0 else _looks
    began = seen = time.monotonic()
    while (sight := look(gang)) is not enough:
        now = time.monotonic()
        seen = now if sight is Sight.HOST else seen
        if now - seen > patience() or now - began > max(patience(), JOIN_SECONDS):
            raise TemporaryError(
                f"Node {gang.node} waited {now - began:.0f} s for {gang.master}:{gang.port}: {sight.value}.",
                hint="The gang is started again as a whole. If it persists: do all its pods run, and may they reach "
                "each other (NetworkPolicy, DNS)?",
            )
        progress(0, gang.nodes, "node", waitingFor=f"{gang.master}:{gang.port}", waited=round(now - began))
        time.sleep(_PAUSE)


def patience() -> float:
    """$FUSECHAT_GANG_WAIT_SECONDS. UsageError if it is no number."""
    text = os.environ.get(PATIENCE) or str(DEFAULT_PATIENCE)
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"{PATIENCE} is {text!r}.", hint="Give a number of seconds.") from error


def _resolves(gang: Gang) -> Sight:
    """As soon as the name resolves for the master itself, DNS has its pod. Other nodes then come by that name."""
    return Sight.HOST if _addresses(gang) else Sight.NOTHING


def _looks(gang: Gang) -> Sight:
    """A refused connection is a sign of life: the host is there and its stage still prepares."""
    if not _addresses(gang):
        return Sight.NOTHING
    try:
        socket.create_connection((gang.master, gang.port), timeout=_CONNECT_SECONDS).close()
    except ConnectionRefusedError:
        return Sight.HOST
    except OSError:
        return Sight.NOTHING
    return Sight.LISTENING


def _addresses(gang: Gang) -> bool:
    try:
        return bool(socket.getaddrinfo(gang.master, gang.port, type=socket.SOCK_STREAM))
    except OSError:
        return False
