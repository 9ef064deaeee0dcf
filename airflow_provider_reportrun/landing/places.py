"""
Destinations as DAG authors write them: read and checked; errors suggest a correction.

Libraries treat any text that is not a URI as a local path, so ``s3:/finance/a.csv`` would land on
the worker's disk, where nobody expects it. This module opens no store and reads no file, so
operators can check destinations while a DAG file is parsed.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePath
from typing import Any, Final

from msgspec import Struct

from airflow_provider_reportrun.errors import InvalidInput

LOCAL_SCHEMES: Final = frozenset({"", "file", "local"})
SFTP_SCHEMES: Final = frozenset({"sftp", "ssh"})
_AZURE_SCHEMES: Final = frozenset({"abfs", "abfss"})
_SCHEMES: Final = (
    "s3|s3a|s3n|gs|gcs|abfs|abfss|adl|wasb|wasbs|dbfs|hdfs|sftp|ssh|ftp|https|http|file"
)
_MOST_SHOWN: Final = 120
_TEMPLATE: Final = r"\{\{|\{%|\{#"
_OF_ONE_INSTANCE: Final = r"(?s)\{[{%].*\b(ti|task|task_instance|map_index|expanded_ti_count)\b"
"""A template with a value that differs between the instances of a mapped task."""
_HOLDS_LOGIN: Final = r"(?i)[a-z][a-z0-9+.-]*://[^/]*:[^/]*@"
_AZURE_HOST: Final = r"(?s)([^/@]+)@([^/@.]+)\.(?:dfs|blob)\.([^/@]+)/(.*)"
_VARIABLE: Final = r".*(?:\$\{|(?:^|/|@)\$[A-Za-z_(]|%[A-Za-z_]\w{2,}%)"
_MISTAKES: Final = (
    (
        r".*(?:\{\{|\{%|\{#|\{ [\w.]+ \})",
        "a template in a templated field, and {{{{ ds }}}} in an f-string",
        "it contains a template that was not rendered",
    ),
    (
        r"(?:https?|s3[an]?)://(?P<b>[^/?]+)\.s3[.-][^/?]*amazonaws\.com(?:\.cn)?/(?P<k>[^?]*).*",
        r"s3://\g<b>/\g<k>",
        "an address of S3 in the web cannot be written to",
    ),
    (
        r"(?:https?|s3[an]?)://s3[.-][^/?]*amazonaws\.com(?:\.cn)?/(?P<k>[^?]*).*",
        r"s3://\g<k>",
        "an address of S3 in the web cannot be written to",
    ),
    (
        r"(?:https?|gs)://storage\.(?:googleapis|cloud\.google)\.com/(?P<k>[^?]*).*",
        r"gs://\g<k>",
        "an address of GCS in the web cannot be written to",
    ),
    (
        r"https?://(?P<a>[^./?]+)\.(?:dfs|blob)\.(?P<h>[^/?]+)/(?P<c>[^/?]+)/(?P<k>[^?]*).*",
        r"abfss://\g<c>@\g<a>.dfs.\g<h>/\g<k>",
        "an address of Azure in the web cannot be written to",
    ),
    (
        r"https?:.*",
        "a local path, or s3://, gs://, abfs:// or sftp://",
        "no filesystem writes to http:// or https://",
    ),
    (
        r"(?:s3[an]?:/+)?arn:[^:]*:s3:::/?(?P<k>.*)",
        r"s3://\g<k>",
        "an ARN is not a URI",
    ),
    (r"arn:.*", "s3://bucket/report.csv", "an ARN is not a URI"),
    (
        r"(?:file:/+|local:/+)?~.*",
        "the full path, such as /home/airflow/report.csv",
        "~ is not expanded, and each worker has its own home",
    ),
    (
        _VARIABLE,
        "the value itself, from os.environ or a template",
        "shell variables are not expanded",
    ),
    (
        r"(?:[a-z]:[\\/]|\\\\).*",
        "/folder/report.csv or a URI",
        "it is a Windows path, and Airflow does not run on Windows",
    ),
    (r"(?:file|local):(?!/)(?P<k>.*)", r"file:///folder/\g<k>", "file: needs a full path"),
    (
        r"(?P<s>abfss?)://(?P<a>[^/@]+\.(?:dfs|blob)\.[^/@]+)/(?P<c>[^/?]+)/?(?P<k>[^?]*).*",
        r"\g<s>://\g<c>@\g<a>/\g<k>",
        "Azure's own form names the container before @",
    ),
    (
        r"wasbs?://(?P<c>[^/@]+)@(?P<a>[^/@.]+)\.blob\.(?P<k>.*)",
        r"abfss://\g<c>@\g<a>.dfs.\g<k>",
        "Airflow has no filesystem for wasb:// and wasbs://",
    ),
    (
        r"wasb(?P<s>s?):/+(?P<k>.*)",
        r"abfs\g<s>://\g<k>",
        "Airflow has no filesystem for wasb:// and wasbs://",
    ),
    (
        r"dbfs:/*(?P<k>.*)",
        r"/dbfs/\g<k> (if it is mounted there) or a URI such as s3://bucket/report.csv",
        "Airflow has no filesystem for dbfs:",
    ),
    (
        r"(?!file:|local:)(?P<s>[a-z][a-z0-9+.-]*):(?:/|\\*)(?!/)(?P<k>.*)",
        r"\g<s>://\g<k>",
        "the URI of a store has two slashes, and pathlib.Path drops one",
    ),
    (
        rf"(?P<s>{_SCHEMES})//(?P<k>.*)",
        r"\g<s>://\g<k>",
        "the URI of a store has a colon before its slashes",
    ),
    (
        rf"(?:(?:file:|local:)?/|\.)(?:.*/)?(?P<s>{_SCHEMES}):/+(?P<k>.*)",
        r"\g<s>://\g<k>",
        "a URI within a path would be a folder of that name",
    ),
    (
        r"//(?P<k>.*)",
        r"/\g<k> or s3://\g<k>",
        "a path that begins with two slashes may mean a server or a folder",
    ),
)
"""
Pattern of a mistake: what was probably meant, and why the text is refused.

Compiled only when a destination is read, because each DAG file pays for this import.
"""


class Place(Struct, frozen=True, kw_only=True):
    """A checked destination: a file, or a folder if it ends in ``/``."""

    scheme: str
    """Empty for a local place."""
    path: str
    """The path of a local place; otherwise bucket and key."""
    conn_id: str | None = None
    account: str | None = None
    """The storage account in the URI; only Azure's URIs can have one."""


def as_text(destination: Any) -> str:
    """
    Return a destination as text.

    :param destination: text, a ``pathlib`` path, or an ``ObjectStoragePath``, whose connection is
        kept.
    :return: the text, without blanks around it.
    :raises InvalidInput: if it is something else, or empty.
    """
    text = str(destination) if is_path(destination) else destination
    text = text.strip("\ufeff\u200b").strip() if isinstance(text, str) else ""
    if not text:
        raise InvalidInput(
            f"destination must be a local path or a URI such as s3://bucket/report.csv, "
            f"not {destination!r}. If it comes from a template, check what the template renders to."
        )
    return text


def is_path(destination: Any) -> bool:
    """Tell whether a value is a path object; recognizes airflow.sdk's without importing fsspec."""
    return isinstance(destination, PurePath) or (
        hasattr(destination, "protocol") and hasattr(destination, "storage_options")
    )


def is_of_all_instances(destination: Any) -> bool:
    """
    Tell whether all instances of a mapped task certainly land in one file.

    :param destination: as written in the DAG file, the same for all instances.
    """
    if not (isinstance(destination, str) or is_path(destination)):
        return False  # a parameter, or the output of a task
    text = as_text(destination)
    return not text.endswith("/") and not re.search(_OF_ONE_INSTANCE, text)


def check_written(destination: Any, storage_conn_id: Any) -> None:
    """
    Check a destination in a DAG file, as far as it is known there.

    If it contains templates, only the text before the first is known.

    :raises InvalidInput: if it would land elsewhere than it appears to; suggests what was meant.
    """
    if not (destination is None or isinstance(destination, str)):
        return  # a parameter, or the output of a task
    text = as_text(destination)
    template = re.search(_TEMPLATE, text)
    if template is None:
        is_known = isinstance(storage_conn_id, str) and not re.search(_TEMPLATE, storage_conn_id)
        read_place(text, storage_conn_id or None if is_known else None)
        return
    known = text[: template.start()]
    if "/" in known and not known.endswith(":/"):
        _refuse_mistakes(f"{known}...")
        if ":" not in known:
            _local(f"{known}...", f"{known}...", None)


def read_place(text: str, storage_conn_id: str | None) -> Place:
    """
    Read a destination.

    :param text: see ``as_text``.
    :param storage_conn_id: the argument of that name, or None.
    :raises InvalidInput: if it would land elsewhere than it appears to; suggests what was meant.
    """
    _refuse_mistakes(text)
    scheme, _, rest = text.partition("://") if "://" in text else ("", "", text)
    if re.match(r"(?:file|local):/(?!/)", text):
        scheme, _, path = text.partition(":")
        scheme, rest = "file", path
    elif scheme in {"file", "local"}:
        scheme, rest = "file", _path_of_file_uri(rest)
    if scheme in LOCAL_SCHEMES:
        return _local(rest, text, storage_conn_id)
    return _in_store(scheme, rest, text, storage_conn_id)


def check_path(path: str) -> None:
    """
    Check a local path that may be relative, such as the argument of a function.

    :raises InvalidInput: if it is a URI, or contains something that only a shell would expand.
    """
    if path.partition("://")[0] in _SCHEMES.split("|"):
        raise InvalidInput(
            f"Pass a local path instead of {_shown(path)}: only the operators land in stores."
        )
    _refuse_mistakes(path)


def check_spool_dir(spool_dir: Any) -> None:
    """
    Check the local folder for temporary files.

    :param spool_dir: text or a path.
    :raises InvalidInput: if it is a URI, or contains something that only a shell would expand.
    """
    text = str(spool_dir)
    if "://" in text or re.match(f"~|{_VARIABLE}", text, re.DOTALL):
        raise InvalidInput(
            "Write spool_dir as the full path of a local folder, such as /var/spool/reportrun, "
            f"not {_shown(text)}: ~ and shell variables are not expanded."
        )


def _refuse_mistakes(text: str) -> None:
    if re.match(_HOLDS_LOGIN, text):
        raise InvalidInput(
            "destination contains a login before @: put it into an Airflow connection, and name "
            "that connection in storage_conn_id or before @."
        )
    odd = next((c for c in text if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"}), None)
    if odd is not None:
        raise InvalidInput(
            f"destination contains {odd!r}, which file names must not: remove it from "
            f"{_shown(text)}, or from what its template renders to."
        )
    for pattern, fix, why in _MISTAKES:
        found = re.match(pattern, text, re.IGNORECASE | re.DOTALL)
        if found:
            meant = found.expand(fix) if r"\g<" in fix else fix.format()
            raise InvalidInput(f"Write {meant} as destination, not {_shown(text)}: {why}.")
    scheme, separator, rest = text.partition("://")
    if separator and scheme != scheme.lower():
        raise InvalidInput(
            f"Write {scheme.lower()}://{rest} as destination, not {_shown(text)}: schemes are "
            "lowercase."
        )


def _local(path: str, text: str, storage_conn_id: str | None) -> Place:
    if not path.startswith(("/", "./", "../")):
        raise InvalidInput(
            f"Write the text './{path}', a full path or a URI as destination, not {_shown(text)}: "
            "a relative path depends on where the worker was started."
        )
    if storage_conn_id:
        raise InvalidInput(
            f"Leave out storage_conn_id={storage_conn_id!r}, or write a URI such as s3://bucket"
            f"{path if path.startswith('/') else '/report.csv'} as destination: {_shown(text)} is "
            "a local path."
        )
    return Place(scheme="", path=path)


def _path_of_file_uri(rest: str) -> str:
    """
    Return the path of a ``file://`` URI.

    Escapes are not decoded, as in ``ObjectStoragePath``.

    :param rest: what follows the two slashes: this machine's name or no host, and the path.
    :raises InvalidInput: if the host is another machine.
    """
    host, slash, path = rest.partition("/")
    if host not in {"", "localhost"} or not slash:
        raise InvalidInput(
            "Write file:///folder/report.csv: file:// is for files on this machine, and the "
            f"destination names the host {host!r}."
        )
    return f"/{path}"


def _in_store(scheme: str, rest: str, text: str, storage_conn_id: str | None) -> Place:
    azure = re.fullmatch(_AZURE_HOST, rest) if scheme in _AZURE_SCHEMES else None
    account = None
    if azure:
        container, account, _, key = azure.groups()
        if "?" in key:
            raise InvalidInput(
                "destination contains a query: leave out everything from ? on, and put a SAS token "
                "into the Airflow connection of the store."
            )
        rest = f"{container}/{key}"
    bucket, slash, key = rest.partition("/")
    named, _, bucket = bucket.rpartition("@")
    if not slash or not (bucket or scheme in SFTP_SCHEMES):
        raise InvalidInput(
            f"The destination names no file or folder in a bucket. Write {scheme}://bucket/"
            f"report.csv for a file, or {scheme}://bucket/ for a folder."
        )
    _check_segments(key, text)
    return Place(
        scheme=scheme,
        path=f"{bucket}{slash}{key}",
        conn_id=_the_one(named, storage_conn_id),
        account=account,
    )


def _check_segments(key: str, text: str) -> None:
    """Refuse segments that are plain names to a store but have a meaning in paths."""
    *folders, _ = segments = key.split("/")
    odd = {".", ".."}.intersection(segments)
    if odd:
        raise InvalidInput(
            f"Write destination without {' or '.join(map(repr, sorted(odd)))} between its slashes, "
            f"not {_shown(text)}: they are plain names to a store."
        )
    if "" in folders:
        raise InvalidInput(
            f"Write destination without // after the bucket, not {_shown(text)}: it would be a "
            "folder without a name. Check what its templates render to."
        )


def _the_one(named: str, storage_conn_id: str | None) -> str | None:
    if named and storage_conn_id and named != storage_conn_id:
        raise InvalidInput(
            f"Name only one storage connection: the destination names {named!r}, and "
            f"storage_conn_id is {storage_conn_id!r}."
        )
    return storage_conn_id or named or None


def _shown(text: str) -> str:
    """Return a destination for an error, without a query, which may contain a signature."""
    shown = text.partition("?")[0]
    return repr(shown if len(shown) <= _MOST_SHOWN else shown[:_MOST_SHOWN] + "...")
