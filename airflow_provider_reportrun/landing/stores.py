"""
Stores, and how each publishes a file completely or not at all.

- S3: boto3's transfer manager; a multipart upload is invisible until it is complete.
- GCS, Azure and other stores of fsspec: an upload that is held back until it is committed.
- SFTP: a temporary file in the same folder, which is renamed.

All but SFTP can send a result while it is received; see ``uploads.py``.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_reportrun.errors import InvalidInput, LandingFailed
from airflow_provider_reportrun.landing.spool import is_leftover, temporary_name
from airflow_provider_reportrun.landing.uploads import Pipe, Upload

if TYPE_CHECKING:
    from pathlib import Path

    from _typeshed import SupportsRead

    from airflow_provider_reportrun.landing.archive import LocalFile

log = logging.getLogger(__name__)

S3_SCHEMES: Final = frozenset({"s3", "s3a", "s3n"})
_OURS: Final = frozenset({"autocommit", "block_size", "mode", "path"})
"""Arguments of fsspec's ``open`` on which atomic publishing depends."""
_OF_LOOKS: Final = frozenset(
    {
        "ExpectedBucketOwner",
        "RequestPayer",
        "SSECustomerAlgorithm",
        "SSECustomerKey",
        "SSECustomerKeyMD5",
    }
)
"""Arguments of uploads that S3 also needs to read the size of an object."""
_OF_CLEAN_UPS: Final = frozenset({"ExpectedBucketOwner", "RequestPayer"})
"""Arguments of uploads that S3 also accepts when uploads are listed and aborted."""
_BLOCK_BYTES: Final = 16 << 20
"""Size of an upload's parts: larger ones need memory, smaller ones time."""
_PARTS_AT_ONCE: Final = 5
"""Parts of 8 MiB that are sent to S3 at once while a result is received; all are in memory."""


@contextlib.contextmanager
def failing_as_ours(what: str, uri: str) -> Iterator[None]:
    """
    Convert errors of a folder or store in the block.

    :param what: the verb for what is tried with ``uri``, such as ``"publish"``.
    :raises LandingFailed: instead of any error.
    """
    try:
        yield
    except Exception as error:  # each store's client library has its own errors
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise LandingFailed(
            f"Check space, permissions and the storage connection: could not {what} {uri}: {reason}"
            ". No partial file was left.",
            uri=uri,
        ) from error


def check_options(scheme: str, options: Mapping[str, Any]) -> None:
    """
    Check ``storage_options``.

    :param options: for S3 ``ExtraArgs`` of boto3's ``upload_file``; for other stores arguments of
        ``open`` of their fsspec filesystem.
    :raises InvalidInput: if one cannot be used; names it, and never shows a value.
    """
    names = sorted(map(str, options))
    if scheme not in S3_SCHEMES:
        if ours := sorted(_OURS.intersection(names)):
            raise InvalidInput(
                f"Leave {', '.join(ours)} out of storage_options: the landing sets them itself."
            )
        return
    from boto3.s3.transfer import S3Transfer  # type: ignore[import-untyped]

    known = S3Transfer.ALLOWED_UPLOAD_ARGS
    for name in names:
        if name not in known:
            import difflib

            nearest = difflib.get_close_matches(name, known, 1, 0.4)
            raise InvalidInput(
                f"Correct storage_options: boto3 does not accept {name!r} for uploads to S3. "
                + (
                    f"Did you mean {nearest[0]!r}?"
                    if nearest
                    else f"It accepts {', '.join(known)}."
                )
            )
    if not isinstance(options.get("SSECustomerKey", ""), str):
        raise InvalidInput("SSECustomerKey in storage_options must be text.")


@contextlib.contextmanager
def _cleaning(what: str, advice: str) -> Iterator[None]:
    """
    Log errors of a clean-up in the block, and suppress them.

    Leftovers do not stop a landing, and if the store cannot be reached, publishing fails anyway.

    :param what: the URI of the file that leftovers are looked for.
    :param advice: what the user can do.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 - each store's client library has its own errors
        reason = f"{type(error).__name__}: {error}"
        log.warning(
            "Could not remove leftovers of an earlier try of %s: %s. %s", what, reason, advice
        )


class _Store:
    """
    What all stores share.

    :param scheme: for the reported URIs.
    :param root: the folder, as bucket and key.
    :param options: ``storage_options``; see ``check_options``.
    """

    spool_folder: Path | None = None
    holder: str | None = None

    def __init__(self, scheme: str, root: str, options: Mapping[str, Any] | None = None) -> None:
        self._scheme = scheme
        self._options = dict(options or {})
        self._root = root.removesuffix("/")

    def uri(self, name: str) -> str:
        """Return the URI of a file, without a connection id."""
        return f"{self._scheme}://{self._path(name)}"

    def check(self, name: str) -> None:
        """Accept any name: stores have no folders, or refuse the name in ``publish``."""

    def check_free(self, name: str) -> None:
        """Accept any name, as ``check`` does."""

    def size(self, name: str) -> int | None:
        """Return the size of the existing object in bytes, or None."""
        with failing_as_ours("look at", self.uri(name)):
            return self._size(self._path(name))

    def publish(self, file: LocalFile, owner: str) -> None:
        """Upload a file, so that it becomes visible only when it is complete."""
        with failing_as_ours("publish", self.uri(file.name)):
            self._upload(file, self._path(file.name), owner)
        self._check_landed(file.name, file.size)

    def upload(self, name: str) -> Upload | None:
        """Return an upload that becomes visible only when it is complete."""

        def send(source: Pipe) -> None:
            with failing_as_ours("publish", self.uri(name)):
                self._send(source, self._path(name))

        return Upload(name, send, partial(self._check_landed, name))

    def _check_landed(self, name: str, size: int) -> None:
        """
        Compare the size of an object with the bytes that were uploaded, if it may be read.

        :raises LandingFailed: if they differ.
        """
        landed: int | None = size
        with (
            failing_as_ours("look at", self.uri(name)),
            contextlib.suppress(PermissionError),  # writing may be allowed without reading
        ):
            landed = self._size(self._path(name))
        if landed != size:
            raise LandingFailed(
                "Check that nothing else writes to the destination, and let the task try again: "
                f"{self.uri(name)} has {landed} bytes after {size} were uploaded.",
                uri=self.uri(name),
            )

    def clean(self, name: str, owner: str) -> None:
        """Do nothing: the store itself drops uploads that were never committed."""

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if self._root else name

    def _size(self, path: str) -> int | None:
        """
        Return the size of an object in bytes, or None if there is none.

        :raises PermissionError: if it may not be read.
        """
        raise NotImplementedError

    def _upload(self, file: LocalFile, path: str, owner: str) -> None:
        raise NotImplementedError

    def _send(self, source: Pipe, path: str) -> None:
        """Upload what is read, so that it becomes visible only after its end was read."""
        raise NotImplementedError


class StoreTarget(_Store):
    """
    A folder of a store over fsspec, which holds uploads back until they are committed.

    A killed upload leaves nothing visible: after a week Azure drops uncommitted blocks, and GCS
    upload sessions.

    :param fs: an fsspec filesystem with Airflow's credentials.
    """

    def __init__(
        self, fs: Any, scheme: str, root: str, options: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(scheme, root, options)
        self._fs = fs
        self.holder = self._holder()

    def _holder(self) -> str | None:
        """Return Azure's storage account, in whichever way the connection names it, or None."""
        client = getattr(self._fs, "service_client", None)
        account: str | None = getattr(client, "account_name", None)
        return account

    def _size(self, path: str) -> int | None:
        self._fs.invalidate_cache(path)
        try:
            info = self._fs.info(path)
        except FileNotFoundError:
            return None
        # fsspec reports a common prefix of objects as a directory.
        return None if info.get("type") == "directory" else int(info["size"] or 0)

    def _upload(self, file: LocalFile, path: str, owner: str) -> None:  # noqa: ARG002
        with file.path.open("rb") as source:
            self._send(source, path)

    def _send(self, source: SupportsRead[bytes], path: str) -> None:
        with _held_back(self._fs, path, self._options) as out:
            shutil.copyfileobj(source, out, _BLOCK_BYTES)


@contextlib.contextmanager
def _held_back(fs: Any, path: str, options: Mapping[str, Any]) -> Iterator[Any]:
    """
    Write an object that becomes visible only if the block succeeds.

    After an error, ``with fs.open(...)`` would commit what was written so far: leaving the block
    closes the file, and closing it uploads the rest.
    """
    out = fs.open(path, "wb", autocommit=False, block_size=_BLOCK_BYTES, **options)
    try:
        yield out
        out.close()
        out.commit()
    except BaseException:
        with contextlib.suppress(Exception):  # the original error is the one to raise
            out.discard()
        out.closed = True  # adlfs ignores autocommit: closing it, as __del__ does, would commit
        raise


class SftpTarget(StoreTarget):
    """A folder of an SFTP server, over ``sshfs``."""

    def _holder(self) -> str | None:
        """Return the server's name, which fsspec keeps, although sshfs does not."""
        server: str | None = self._fs.storage_options.get("host")
        return server

    def upload(self, name: str) -> None:
        """Return None: a part of a temporary file would take room on the server."""

    def clean(self, name: str, owner: str) -> None:
        """Remove temporary files of this owner from the folder of a file."""
        folder = str(PurePosixPath(self._path(name)).parent)
        leftovers: list[str] = []
        with _cleaning(self.uri(name), "Grant permission to list its folder"):
            if self._fs.exists(folder):
                paths = self._fs.ls(folder, detail=False)
                leftovers = [p for p in paths if is_leftover(PurePosixPath(p).name, owner)]
        for path in leftovers:
            log.info("Removing the leftover %s of an earlier try", path)
            with _cleaning(self.uri(name), f"Remove {path} by hand"):
                self._fs.rm_file(path)

    def _upload(self, file: LocalFile, path: str, owner: str) -> None:
        folder = str(PurePosixPath(path).parent)
        self._fs.makedirs(folder, exist_ok=True)
        temporary = f"{folder}/{temporary_name(owner)}"
        try:
            with file.path.open("rb") as source, self._fs.open(temporary, "wb") as out:
                shutil.copyfileobj(source, out, _BLOCK_BYTES)
            self._replace(temporary, path)
        except BaseException:
            with contextlib.suppress(Exception):
                self._fs.rm_file(temporary)
            raise

    def _replace(self, temporary: str, path: str) -> None:
        """
        Replace a file, after asking the server to sync the new one.

        ``fs.mv`` would copy in a shell if the server cannot replace a file in one step.
        """
        from fsspec.asyn import sync

        async def replace() -> None:
            from asyncssh.sftp import SFTPNoSuchFile, SFTPOpUnsupported, SFTPPermissionDenied

            async with self._fs.client.start_sftp_client() as client:
                with contextlib.suppress(SFTPOpUnsupported, SFTPPermissionDenied):
                    async with client.open(temporary, "rb") as file:
                        await file.fsync()
                try:
                    await client.posix_rename(temporary, path)
                except SFTPOpUnsupported:
                    with contextlib.suppress(SFTPNoSuchFile):
                        await client.remove(path)
                    await client.rename(temporary, path)

        sync(self._fs.loop, replace)


class S3Target(_Store):
    """
    A folder of a bucket, over boto3, whose uploads are faster than s3fs's and need less memory.

    :param client: boto3's, with Airflow's credentials.
    """

    def __init__(
        self, client: Any, scheme: str, root: str, options: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(scheme, root, options)
        self._client = client

    def clean(self, name: str, owner: str) -> None:  # noqa: ARG002 - an upload has no owner
        """
        Abort all open uploads of exactly this object.

        S3 keeps the parts of a killed upload, and charges for them, until it is aborted. An upload
        does not name its owner, but it could only end in the object that this try replaces.
        """
        bucket, key = self._bucket_and_key(self._path(name))
        asked = {name: self._options[name] for name in _OF_CLEAN_UPS.intersection(self._options)}
        advice = (
            "Grant s3:ListBucketMultipartUploads and s3:AbortMultipartUpload, or add a lifecycle "
            "rule to the bucket that aborts incomplete uploads"
        )
        with _cleaning(self.uri(name), advice):
            pages = self._client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=bucket, Prefix=key, **asked):
                for upload in page.get("Uploads", ()):
                    if upload["Key"] == key:
                        log.info("Aborting an open upload of %s", self.uri(name))
                        self._client.abort_multipart_upload(
                            Bucket=bucket, Key=key, UploadId=upload["UploadId"], **asked
                        )

    def _size(self, path: str) -> int | None:
        bucket, key = self._bucket_and_key(path)
        looks = {name: self._options[name] for name in _OF_LOOKS.intersection(self._options)}
        try:
            return int(self._client.head_object(Bucket=bucket, Key=key, **looks)["ContentLength"])
        except self._client.exceptions.ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status == HTTPStatus.NOT_FOUND:
                return None
            if status == HTTPStatus.FORBIDDEN:
                raise PermissionError(str(error)) from error
            raise

    def _upload(self, file: LocalFile, path: str, owner: str) -> None:  # noqa: ARG002
        bucket, key = self._bucket_and_key(path)
        self._client.upload_file(str(file.path), bucket, key, ExtraArgs=self._options)

    def _send(self, source: Pipe, path: str) -> None:
        from boto3.s3.transfer import TransferConfig, create_transfer_manager

        bucket, key = self._bucket_and_key(path)
        config = TransferConfig(max_concurrency=_PARTS_AT_ONCE)
        config.max_in_memory_upload_chunks = _PARTS_AT_ONCE
        with create_transfer_manager(self._client, config) as manager:
            sent = manager.upload(source, bucket, key, extra_args=self._options)
            source.on_cut(sent.cancel)
            sent.result()

    @staticmethod
    def _bucket_and_key(path: str) -> tuple[str, str]:
        bucket, _, key = path.partition("/")
        return bucket, key
