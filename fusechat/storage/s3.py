"""Storage in an S3 bucket, AWS's or any other service's that speaks the protocol.

Large files go in parts; every request carries a checksum and is tried again as boto3's standard mode does. An object
appears when its upload is complete, so a killed writer leaves nothing that is listed (unfinished multipart uploads cost
space until the bucket's lifecycle rule removes them). boto3 is imported with the first request.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import TYPE_CHECKING

from fusechat.errors import ConfigurationError, TemporaryError, UsageError
from fusechat.storage.base import READ_CHUNK, FileEntry, ObjectInfo, S3Settings, checked_key, file_entry
from fusechat.storage.local import local_errors, publish, sync, unfinished_file
from fusechat.storage.s3_errors import is_missing, s3_errors, status_and_code

if TYPE_CHECKING:
    from boto3.s3.transfer import TransferConfig
    from types_boto3_s3.client import S3Client

_PRECONDITION_FAILED = 412
_CONFLICT = 409
_NOT_IMPLEMENTED = 501
_CONFLICT_WAIT_SECONDS = 0.2
_PARALLEL_PARTS = 8


class S3Storage:
    """Keys are objects below `s3://bucket[/prefix]`. One client serves all threads."""

    def __init__(self, uri: str, settings: S3Settings) -> None:
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not uri.startswith("s3://") or not bucket:
            raise UsageError(f"{uri} is no S3 URI", hint="Write s3://bucket or s3://bucket/prefix.")
        self.bucket = bucket
        self.prefix = prefix.strip("/")
        self.settings = settings
        self._made_client: S3Client | None = None
        self._lock = threading.Lock()

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def read(self, key: str) -> bytes:
        with self._errors(key):
            return self._client.get_object(Bucket=self.bucket, Key=self._name(key))["Body"].read()

    def chunks(self, key: str) -> Iterator[bytes]:
        with self._errors(key):
            body = self._client.get_object(Bucket=self.bucket, Key=self._name(key))["Body"]
            with closing(body):
                yield from body.iter_chunks(READ_CHUNK)

    def write(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """With `if_absent` all writers may get False: if a network failure hid the answer from the one that wrote."""
        with self._errors(key):
            if if_absent:
                return self._write_if_absent(key, data)
            self._client.put_object(Bucket=self.bucket, Key=self._name(key), Body=data)
            return True

    def upload(self, path: Path, key: str, *, move: bool = False) -> FileEntry:
        name = self._name(key)
        with local_errors(path):
            entry = file_entry(path, key)
            with self._errors(key):
                self._client.upload_file(
                    str(path),
                    self.bucket,
                    name,
                    ExtraArgs={"Metadata": {"sha256": entry.sha256}},
                    Config=self._transfer,
                )
            if move:
                path.unlink()
        return entry

    def download(self, key: str, path: Path) -> None:
        name = self._name(key)
        with local_errors(path), unfinished_file(path) as unfinished:
            with self._errors(key):
                self._client.download_file(self.bucket, name, str(unfinished), Config=self._transfer)
            with unfinished.open("rb") as file:
                sync(file)
            publish(unfinished, path, if_absent=False)

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        base = f"{self.prefix}/" if self.prefix else ""
        with self._errors(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=base + prefix)
            found = [
                ObjectInfo(
                    item["Key"].removeprefix(base),
                    item["Size"],
                    item["ETag"].strip('"'),
                    item["LastModified"].timestamp(),
                )
                for page in pages
                for item in page.get("Contents", ())
                if not item["Key"].endswith("/")  # a folder as some browsers make them
            ]
        return sorted(found, key=lambda info: info.key.encode())

    def size(self, key: str) -> int | None:
        from botocore.exceptions import ClientError

        with self._errors(key):
            try:
                return self._client.head_object(Bucket=self.bucket, Key=self._name(key))["ContentLength"]
            except ClientError as error:
                if is_missing(error):
                    return None
                raise

    def delete(self, key: str) -> None:
        with self._errors(key):
            self._client.delete_object(Bucket=self.bucket, Key=self._name(key))

    def local_path(self, key: str) -> None:  # noqa: ARG002
        return None

    @property
    def _client(self) -> S3Client:
        with self._lock:
            if self._made_client is None:
                self._made_client = _connected(self.settings)
            return self._made_client

    @property
    def _transfer(self) -> TransferConfig:
        from boto3.s3.transfer import TransferConfig

        return TransferConfig(
            multipart_threshold=self.settings.part_bytes,
            multipart_chunksize=self.settings.part_bytes,
            max_concurrency=_PARALLEL_PARTS,
        )

    def _name(self, key: str) -> str:
        return f"{self.prefix}/{checked_key(key)}".lstrip("/")

    def _errors(self, key: str) -> AbstractContextManager[None]:
        return s3_errors(f"{self.uri}/{key}", self.settings.endpoint)

    def _write_if_absent(self, key: str, data: bytes) -> bool:
        from botocore.exceptions import ClientError

        for _ in range(self.settings.attempts):
            try:
                self._client.put_object(Bucket=self.bucket, Key=self._name(key), Body=data, IfNoneMatch="*")
                return True
            except ClientError as error:
                status, code = status_and_code(error)
                if status == _PRECONDITION_FAILED:
                    return False
                if status == _NOT_IMPLEMENTED:
                    raise ConfigurationError(
                        f"{self.uri}: the service cannot write conditionally ({code}), so two writers may collide",
                        hint="Use a service, or a version of it, that supports PutObject with If-None-Match.",
                    ) from error
                if status != _CONFLICT:
                    raise
                time.sleep(_CONFLICT_WAIT_SECONDS)
        raise TemporaryError(f"{self.uri}/{key}: other writers were in the way {self.settings.attempts} times")


def _connected(settings: S3Settings) -> S3Client:
    """A client of its own session: the shared one of boto3 may not be made by two threads at once."""
    import boto3
    from botocore.config import Config

    endpoint = settings.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    addressing = settings.addressing
    if addressing == "auto" and endpoint:
        addressing = "path"
    config = Config(
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
        retries={"mode": "standard", "total_max_attempts": settings.attempts},
        s3={"addressing_style": addressing},
        request_checksum_calculation="when_supported",
        response_checksum_validation="when_supported",
    )
    session = boto3.session.Session(profile_name=settings.profile)
    # services other than AWS's mostly have no regions, but a signature needs one
    # (AWS_REGION is what clusters set and other SDKs read; botocore knows only AWS_DEFAULT_REGION)
    named: str | None = settings.region or os.environ.get("AWS_REGION") or session.region_name
    region = named or ("us-east-1" if endpoint else None)
    return session.client("s3", endpoint_url=endpoint, region_name=region, config=config)
