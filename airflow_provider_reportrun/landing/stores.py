"""
Stores that results are published in, each by its own way to show an object whole or not at all.

- S3: boto3's transfer manager, whose multipart upload shows nothing before it is complete;
- GCS, Azure and whatever else fsspec knows: an upload that is held back until it is committed;
- SFTP: a temporary sibling that is renamed.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_reportrun.errors import InvalidInput, LandingFailed
from airflow_provider_reportrun.landing.spool import is_leftover, temporary_name

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_reportrun.landing.archive import LocalFile

log = logging.getLogger(__name__)

S3_SCHEMES: Final = frozenset({"s3", "s3a", "s3n"})
_OURS: Final = frozenset({"autocommit", "block_size", "mode", "path"})
"""Arguments of fsspec's ``open`` that make a file visible whole or not at all."""
_OF_LOOKS: Final = frozenset(
    {
        "ExpectedBucketOwner",
        "RequestPayer",
        "SSECustomerAlgorithm",
        "SSECustomerKey",
        "SSECustomerKeyMD5",
    }
)
"""Arguments of uploads that S3 wants when an object is looked at, too."""
_OF_CLEAN_UPS: Final = frozenset({"ExpectedBucketOwner", "RequestPayer"})
_BLOCK_BYTES: Final = 16 << 20
"""Size of an upload's parts: larger ones cost memory, smaller ones time."""


@contextlib.contextmanager
def failing_as_ours(what: str, uri: str) -> Iterator[None]:
    """
    Use a folder or a store.

    :param what: was tried on ``uri``.
    :raises LandingFailed: in place of whatever error of theirs it raises.
    """
    try:
        yield
    except Exception as error:  # each store raises errors of a client library of its own
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise LandingFailed(
            f"Tried to {what} {uri}: {reason}. "
            "See to space, rights and the storage connection; nothing partial was left.",
            uri=uri,
        ) from error


def check_options(scheme: str, options: Mapping[str, Any]) -> None:
    """
    Check how a store is asked to keep files.

    :param options: for S3 ``ExtraArgs`` of boto3's ``upload_file``; for other stores arguments of
        ``open`` of their fsspec filesystem.
    :raises InvalidInput: names those that cannot be used, and never shows a value.
    """
    names = sorted(map(str, options))
    if scheme not in S3_SCHEMES:
        if ours := sorted(_OURS.intersection(names)):
            raise InvalidInput(
                f"Leave {', '.join(ours)} out of storage_options: the landing itself decides them."
            )
        return
    from boto3.s3.transfer import S3Transfer  # type: ignore[import-untyped]

    known = S3Transfer.ALLOWED_UPLOAD_ARGS
    for name in names:
        if name not in known:
            import difflib

            nearest = difflib.get_close_matches(name, known, 1, 0.4)
            raise InvalidInput(
                f"storage_options names {name!r}, which boto3 does not take for an upload to S3. "
                + (f"Did you mean {nearest[0]!r}?" if nearest else f"Take of {', '.join(known)}.")
            )
    if not isinstance(options.get("SSECustomerKey", ""), str):
        raise InvalidInput("SSECustomerKey in storage_options must be a text.")


@contextlib.contextmanager
def _cleaning(what: str, advice: str) -> Iterator[None]:
    """
    Look for what an earlier try left, and remove it.

    Whatever a store's client raises is logged and passed over: what is left stops no landing, and
    a store that cannot be reached says so when it is written.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 - each store raises errors of a library of its own
        reason = f"{type(error).__name__}: {error}"
        log.warning("Could not remove what an earlier try left of %s: %s. %s", what, reason, advice)


class _Store:
    """
    What all stores share.

    :param scheme: of the URIs to tell.
    :param root: the folder, as the store names it.
    :param options: how it is to keep files; see ``check_options``.
    """

    spool_folder: Path | None = None
    holder: str | None = None

    def __init__(self, scheme: str, root: str, options: Mapping[str, Any] | None = None) -> None:
        self._scheme = scheme
        self._options = dict(options or {})
        self._root = root.removesuffix("/")

    def uri(self, name: str) -> str:
        """Give the URI of a file, without a connection id."""
        return f"{self._scheme}://{self._path(name)}"

    def check(self, name: str) -> None:
        """Take any name: a store has no folders, or tells when it is written."""

    def check_free(self, name: str) -> None:
        """Take any name, as ``check`` does."""

    def size(self, name: str) -> int | None:
        """Give the size of the object that stands there now, or None."""
        with failing_as_ours("look at", self.uri(name)):
            return self._size(self._path(name))

    def publish(self, file: LocalFile, owner: str) -> None:
        """Upload a file, and make it visible only when it is there whole."""
        with failing_as_ours("publish", self.uri(file.name)):
            path = self._path(file.name)
            self._upload(file, path, owner)
            landed: int | None = file.size
            with contextlib.suppress(PermissionError):  # who may write need not be allowed to look
                landed = self._size(path)
        if landed != file.size:
            raise LandingFailed(
                f"{self.uri(file.name)} holds {landed} bytes after {file.size} were uploaded.",
                uri=self.uri(file.name),
            )

    def clean(self, name: str, owner: str) -> None:
        """Leave it to the store, which drops of itself what was never committed."""

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if self._root else name

    def _size(self, path: str) -> int | None:
        """
        Give the size of an object, or None where there is none.

        :raises PermissionError: when it may not be looked at.
        """
        raise NotImplementedError

    def _upload(self, file: LocalFile, path: str, owner: str) -> None:
        raise NotImplementedError


class StoreTarget(_Store):
    """
    A folder of a store over fsspec, which holds uploads back until they are committed.

    What a kill leaves is no object: Azure drops blocks that were not committed after a week, GCS
    the sessions of uploads.

    :param fs: an fsspec filesystem, authenticated by Airflow.
    """

    def __init__(
        self, fs: Any, scheme: str, root: str, options: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(scheme, root, options)
        self._fs = fs
        self.holder = self._holder()

    def _holder(self) -> str | None:
        """Give the storage account, where there is one: Azure's, however the connection says it."""
        client = getattr(self._fs, "service_client", None)
        account: str | None = getattr(client, "account_name", None)
        return account

    def _size(self, path: str) -> int | None:
        self._fs.invalidate_cache(path)
        try:
            info = self._fs.info(path)
        except FileNotFoundError:
            return None
        # What other objects' names begin with is a folder to fsspec, and no object.
        return None if info.get("type") == "directory" else int(info["size"] or 0)

    def _upload(self, file: LocalFile, path: str, owner: str) -> None:  # noqa: ARG002
        with file.path.open("rb") as source, _held_back(self._fs, path, self._options) as out:
            shutil.copyfileobj(source, out, _BLOCK_BYTES)


@contextlib.contextmanager
def _held_back(fs: Any, path: str, options: Mapping[str, Any]) -> Iterator[Any]:
    """
    Write an object that becomes visible when the block ends well, and not at all otherwise.

    ``with fs.open(...)`` would commit what was written so far on an error: leaving the block closes
    the file, and closing it uploads the rest.
    """
    out = fs.open(path, "wb", autocommit=False, block_size=_BLOCK_BYTES, **options)
    try:
        yield out
        out.close()
        out.commit()
    except BaseException:
        with contextlib.suppress(Exception):  # the error that led here is the one to tell
            out.discard()
        out.closed = True  # adlfs ignores autocommit: closing it, as __del__ does, would commit
        raise


class SftpTarget(StoreTarget):
    """A folder of an SFTP server, over ``sshfs``."""

    def _holder(self) -> str | None:
        """Give the server; sshfs forgets it, but fsspec keeps what it was made of."""
        server: str | None = self._fs.storage_options.get("host")
        return server

    def clean(self, name: str, owner: str) -> None:
        """Remove temporary files of this owner from the folder that a file goes into."""
        folder = str(PurePosixPath(self._path(name)).parent)
        leftovers: list[str] = []
        with _cleaning(self.uri(name), "Allow to list its folder"):
            if self._fs.exists(folder):
                paths = self._fs.ls(folder, detail=False)
                leftovers = [p for p in paths if is_leftover(PurePosixPath(p).name, owner)]
        for path in leftovers:
            log.info("Removing %s, which an earlier try left", path)
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
        Rename over what stands there, once the server says that it is on the disk.

        ``fs.mv`` would copy, in a shell, where the server does not know how to replace in one step.
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
    A folder of a bucket, over boto3: its uploads are faster than s3fs's and need less memory.

    :param client: boto3's, authenticated by Airflow.
    """

    def __init__(
        self, client: Any, scheme: str, root: str, options: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(scheme, root, options)
        self._client = client

    def clean(self, name: str, owner: str) -> None:  # noqa: ARG002 - an upload bears no name
        """
        Abort all uploads of exactly this object that are open.

        S3 keeps what a killed upload has sent, and charges for it, until someone aborts it. Nothing
        in it tells whose it is, but what it would end in is the object that this try replaces.
        """
        bucket, key = self._bucket_and_key(self._path(name))
        asked = {name: self._options[name] for name in _OF_CLEAN_UPS.intersection(self._options)}
        advice = (
            "Allow s3:ListBucketMultipartUploads and s3:AbortMultipartUpload, or let a lifecycle "
            "rule of the bucket abort incomplete uploads"
        )
        with _cleaning(self.uri(name), advice):
            pages = self._client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=bucket, Prefix=key, **asked):
                for upload in page.get("Uploads", ()):
                    if upload["Key"] == key:
                        log.info("Aborting an upload of %s that is open", self.uri(name))
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

    @staticmethod
    def _bucket_and_key(path: str) -> tuple[str, str]:
        bucket, _, key = path.partition("/")
        return bucket, key
