"""What S3 and the way to it can answer, as errors of the tree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fusechat.errors import ConfigurationError, FuseChatError, MissingInputError, NoPermissionError, TemporaryError

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

_CREDENTIALS = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the profile, or the workload's identity."
_REFUSED_CODES = frozenset(["ExpiredToken", "InvalidToken", "TokenRefreshRequired"])
"""Those that do not come with 401 or 403."""
_BUSY_CODES = frozenset(["BadDigest", "IncompleteBody", "RequestTimeout", "XAmzContentChecksumMismatch"])
"""Damaged or slow transfers; they come with 400."""
_CLOCK_CODES = frozenset(["RequestTimeTooSkewed", "RequestExpired"])
_BUSY_STATUS = (408, 425, 429)


@contextmanager
def s3_errors(where: str, endpoint: str | None) -> Iterator[None]:
    """Turns botocore's and boto3's exceptions into the tree; `where` is the URI of the object."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise _answered(error, where) from error
    except BotoCoreError as error:
        raise _unanswered(error, where, endpoint) from error
    except Boto3Error as error:
        # uploads wrap what the service answered
        cause = error.__context__
        raise (
            _answered(cause, where) if isinstance(cause, ClientError) else TemporaryError(f"{where}: {error}")
        ) from error
    except ValueError as error:
        # botocore checks the endpoint's form with a bare ValueError
        if "endpoint" not in str(error).lower():
            raise
        raise ConfigurationError(f"{where}: {error}", hint="Write the endpoint as https://host[:port].") from error


def status_and_code(error: ClientError) -> tuple[int, str]:
    """HTTP status and S3 error code of an answer."""
    answer = error.response
    return answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0), answer.get("Error", {}).get("Code", "")


def is_missing(error: ClientError) -> bool:
    """The answer says that there is no such key (or bucket: HEAD does not tell them apart)."""
    return status_and_code(error)[0] == 404


def _answered(error: ClientError, where: str) -> FuseChatError:
    status, code = status_and_code(error)
    message = f"{where}: {code}: {error.response.get('Error', {}).get('Message', '')}".rstrip(": ")
    if code == "NoSuchBucket":
        return MissingInputError(message, hint="Create the bucket, or correct the storage URI or its region.")
    if status == 404:
        return MissingInputError(f"{where} does not exist")
    if code in _CLOCK_CODES:
        return NoPermissionError(message, hint="Set this machine's clock.")
    if code in _BUSY_CODES or status >= 500 or status in _BUSY_STATUS:
        return TemporaryError(message, hint="Run the same command again; everything finished is kept.")
    if code in _REFUSED_CODES or status in (401, 403):
        return NoPermissionError(message, hint=_CREDENTIALS)
    return ConfigurationError(message, hint="Check the bucket's name, the region and the endpoint.")


def _unanswered(error: Exception, where: str, endpoint: str | None) -> FuseChatError:
    from botocore import exceptions as boto

    message = f"{where}: {error}"
    refused = (
        boto.NoCredentialsError,
        boto.PartialCredentialsError,
        boto.CredentialRetrievalError,
        boto.TokenRetrievalError,
        boto.SSOError,
    )
    if isinstance(error, refused):
        return NoPermissionError(message, hint=_CREDENTIALS)
    if isinstance(error, boto.SSLError):
        hint = "Name the certificate authority in AWS_CA_BUNDLE, or correct the endpoint."
        return ConfigurationError(message, hint=hint)
    passing = (
        boto.ConnectionError,
        boto.HTTPClientError,
        boto.IncompleteReadError,
        boto.FlexibleChecksumError,
        boto.MetadataRetrievalError,
    )
    if isinstance(error, passing):
        hint = f"Check that {endpoint or 'the service'} can be reached, then run the same command again."
        return TemporaryError(message, hint=hint)
    return ConfigurationError(message, hint="Check the storage URI, the profile and the region.")
