"""The hf:// half of the user's inputs, through huggingface_hub.

HF_ENDPOINT (a mirror), HF_TOKEN (or the saved login), HF_HOME and HF_HUB_OFFLINE mean what they mean there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from fusechat.errors import (
    ConfigurationError,
    FuseChatError,
    MissingInputError,
    NoPermissionError,
    TemporaryError,
    UsageError,
)
from fusechat.storage.inputs import InputFile, InputKind, Located, is_part, nothing_found
from fusechat.storage.local import local_errors

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.hf_api import RepoFile

_URI = re.compile(
    r"hf://(?P<kind>datasets/|models/)?(?P<repo>[^/@]+(?:/[^/@]+)?)(?:@(?P<revision>[^/]+))?(?:/(?P<path>[^@].*))?"
)
_NO_SUCH_REPO = (
    "Check the name. If it is private, set HF_TOKEN (spec.hub.tokenSecretRef on a cluster) to a token that may read it."
)
_REFUSED = (401, 403)
_PASSING = (408, 425, 429)


@dataclass(frozen=True)
class HubLocation:
    """A repository of the hub, or a file or directory in it. `revision` is a branch, tag or commit."""

    repo: str
    kind: InputKind
    revision: str
    path: str = ""

    @property
    def uri(self) -> str:
        """The URI that means this, for messages."""
        kind = "datasets/" if self.kind == "dataset" else ""
        return f"hf://{kind}{self.repo}@{self.revision}" + (f"/{self.path}" if self.path else "")


def parse(uri: str, kind: InputKind, revision: str | None) -> HubLocation:
    """`hf://[datasets/]org/name[@revision][/path]`; a slash in a revision is written %2F.

    UsageError if it is no such URI; ConfigurationError if `revision` says something else than the URI.
    """
    match = _URI.fullmatch(uri.rstrip("/"))
    if match is None:
        raise UsageError(
            f"{uri} is no hub URI", hint="Write hf://org/name, hf://org/name@revision or hf://datasets/org/name."
        )
    in_uri = unquote(match["revision"]) if match["revision"] else None
    if revision is not None and in_uri not in (None, revision):
        raise ConfigurationError(f"{uri} is not of revision {revision}", hint="Name the revision once.")
    named: dict[str | None, InputKind] = {"datasets/": "dataset", "models/": "model", None: kind}
    return HubLocation(match["repo"], named[match["kind"]], revision or in_uri or "main", match["path"] or "")


def locate(location: HubLocation, patterns: Sequence[str]) -> Located:
    """The files of the repository at its revision's commit. Asks for nothing but metadata."""
    from huggingface_hub.hf_api import RepoFile

    with hub_errors(location):
        api = _api()
        info = api.repo_info(location.repo, repo_type=location.kind, revision=location.revision)
        # everybody may list a gated repository; whether its files may be read is another question
        api.auth_check(location.repo, repo_type=location.kind)
        commit = info.sha or location.revision
        tree = api.list_repo_tree(location.repo, repo_type=location.kind, revision=commit, recursive=True)
        found = [entry for entry in tree if isinstance(entry, RepoFile)]
    named = [
        (name, entry) for entry in found if (name := _relative(entry.path, location.path)) and is_part(name, patterns)
    ]
    if not named:
        raise nothing_found(location.uri, patterns)
    files = [InputFile(name, entry.size, _identity(entry)) for name, entry in named]
    return Located(tuple(sorted(files, key=lambda file: file.path)), commit)


def fetch(location: HubLocation, patterns: Sequence[str]) -> Path:
    """The local snapshot, or the file or directory of it that the location names; downloads what is not there yet."""
    from huggingface_hub import constants, snapshot_download

    inside = [f"{location.path}/{pattern}" for pattern in patterns or ("*",)] if location.path else list(patterns)
    # the hub's exceptions are OSErrors too, so they come first
    with local_errors(Path(constants.HF_HUB_CACHE)), hub_errors(location):
        snapshot = snapshot_download(
            location.repo,
            repo_type=location.kind,
            revision=location.revision,
            allow_patterns=[*inside, location.path] if location.path else inside or None,
            endpoint=_endpoint(),
        )
    path = Path(snapshot) / location.path
    if not path.exists():
        raise MissingInputError(f"{location.uri} does not exist")
    return path


@contextmanager
def hub_errors(location: HubLocation) -> Iterator[None]:
    """Turns huggingface_hub's exceptions into the tree."""
    from huggingface_hub import errors as hub

    try:
        yield
    except hub.HfHubHTTPError as error:
        raise _answered(error, location) from error
    except hub.LocalEntryNotFoundError as error:
        # nothing in the cache, and the reason why the hub was of no use is its cause
        cause = error.__cause__
        raise (
            _answered(cause, location)
            if isinstance(cause, hub.HfHubHTTPError)
            else _unreachable(location, cause or error)
        ) from error
    except (hub.OfflineModeIsEnabled, hub.HTTPError, hub.FileMetadataError) as error:  # type: ignore[attr-defined]
        raise _unreachable(location, error) from error
    except hub.HFValidationError as error:
        raise UsageError(f"{location.uri}: {error}") from error


def _answered(error: HfHubHTTPError, location: HubLocation) -> FuseChatError:
    from huggingface_hub import errors as hub

    status = error.response.status_code
    page = f"{_api().endpoint}/{'datasets/' if location.kind == 'dataset' else ''}{location.repo}"
    if isinstance(error, hub.GatedRepoError):
        hint = f"Accept its licence at {page}, then set HF_TOKEN (spec.hub.tokenSecretRef on a cluster) to your token."
        return NoPermissionError(f"{location.uri} is gated", hint=hint)
    if isinstance(error, hub.RepositoryNotFoundError):
        return MissingInputError(f"{location.uri}: no such {location.kind} at {_api().endpoint}", hint=_NO_SUCH_REPO)
    if isinstance(error, hub.RevisionNotFoundError):
        return MissingInputError(f"{location.uri}: {location.repo} has no revision {location.revision}")
    if isinstance(error, hub.EntryNotFoundError):
        return MissingInputError(f"{location.uri} does not exist")
    if isinstance(error, hub.DisabledRepoError) or status in _REFUSED:
        return NoPermissionError(
            f"{location.uri}: refused ({status})", hint=f"Check HF_TOKEN, and whether {page} is open to it."
        )
    if status >= 500 or status in _PASSING:
        return TemporaryError(f"{location.uri}: the hub answered {status}", hint="Run the same command again later.")
    return ConfigurationError(f"{location.uri}: the hub answered {status}: {error.server_message or error}")


def _unreachable(location: HubLocation, error: BaseException) -> TemporaryError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return TemporaryError(
        f"{location.uri}: cannot reach {_api().endpoint}: {reason}",
        hint="Check the network, HF_ENDPOINT and HF_HUB_OFFLINE; what is downloaded already is kept.",
    )


def _api() -> HfApi:
    from huggingface_hub import HfApi

    return HfApi(endpoint=_endpoint())


def _endpoint() -> str | None:
    """huggingface_hub reads it once, at import; a job may name another."""
    return os.environ.get("HF_ENDPOINT") or None


def _relative(path: str, base: str) -> str | None:
    """`path` seen from `base`; of `base` itself its name; None if it is elsewhere."""
    if not base:
        return path
    if path == base:
        return path.rpartition("/")[2]
    return path.removeprefix(f"{base}/") if path.startswith(f"{base}/") else None


def _identity(entry: RepoFile) -> str:
    return f"sha256:{entry.lfs.sha256}" if entry.lfs else f"blob:{entry.blob_id}"
