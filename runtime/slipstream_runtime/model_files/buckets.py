"""Downloads from S3 and Google Cloud Storage, in parallel parts, with checksums, resumed after a kill.

Credentials must not appear in a log or a message.
"""

import dataclasses
import hashlib
import json
import os
import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import obstore
from obstore import exceptions
from obstore.store import GCSStore, S3Store

from slipstream_runtime.errors import EngineError
from slipstream_runtime.model_files import credentials, network, records, selection, space
from slipstream_runtime.model_files.progress import Progress

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

PART_BYTES: Final = 32 << 20
"""Bytes of one request; a killed download loses at most this for each of its connections."""
_NOTE_DIGITS: Final = 8
"""Digits of a part's number in the list of finished parts."""
_CONNECTIONS: Final = 8
_REQUEST_SECONDS: Final = 600
_RETRY: "RetryConfig" = {"max_retries": 6, "retry_timeout": timedelta(minutes=3)}
"""Retries of one request, with growing pauses; after them the container restarts."""
_HEADS: Final = frozenset({selection.CONFIG, selection.MISTRAL_CONFIG, selection.ADAPTER_CONFIG})
"""Files of which each model or adapter has one. Without them an upload is not complete, or it is something else."""
_MD5: Final = re.compile(r'"?([0-9a-f]{32})"?')
"""ETag that is the MD5 of its object: uploaded to S3 in one part, and not encrypted by a KMS key."""

_IDENTITY: Final = re.compile(r"/latest/(?:api|meta-data)|/computeMetadata/|metadata\.google")
"""URLs of a machine's identity, which a client reads if nothing else gave it credentials."""


@dataclasses.dataclass(frozen=True)
class _Object:
    """Object below the prefix."""

    key: str
    size: int
    tag: str | None


@dataclasses.dataclass(frozen=True)
class Download:
    """Download of the objects below a prefix of a bucket into the cache."""

    uri: str
    scheme: str
    bucket: str
    prefix: str
    cache: Path
    files: Sequence[str] | None = None
    """Patterns of the files to download; None downloads the files that vLLM reads."""
    progress: Progress | None = None
    connections: int = _CONNECTIONS

    def folder(self) -> Path:
        """Return the folder of a complete copy; parts that the cache holds are not downloaded again."""
        try:
            return self._from_store()
        except EngineError:
            raise
        except Exception as error:
            raise EngineError(explain(error, uri=self.uri, bucket=self.bucket)) from error

    @property
    def held(self) -> Path:
        """Folder with the objects that were downloaded, whole or in part."""
        return self.cache / "buckets" / records.identity(self.uri)

    def tidy(self) -> None:
        """Keep all files: the parts of a killed download are used."""

    def inspect(self) -> tuple[dict[str, int], bytes | None]:
        """Return the sizes of the files that would be downloaded, and the content of config.json if there is one."""
        try:
            store = store_of(self.scheme, self.bucket)
            listed = self._list(store)
            sizes = {name: listed[name].size for name in self._choose(store, listed)}
            config = (
                self._small(store, listed[selection.CONFIG]) if selection.CONFIG in listed else None
            )
        except EngineError:
            raise
        except Exception as error:
            raise EngineError(explain(error, uri=self.uri, bucket=self.bucket)) from error
        return sizes, config

    def _from_store(self) -> Path:
        store = store_of(self.scheme, self.bucket)
        listed = self._list(store)
        chosen = {name: listed[name] for name in self._choose(store, listed)}
        if self.files is None and not _HEADS & chosen.keys():
            raise EngineError(
                f"{self.uri}: the bucket has no config.json there, so it is not a model. Upload that file last."
            )
        base = self.held
        folder = base / _version(chosen)
        files = [
            _File(entry, folder / name, partial=base / "partial" / _version({name: entry}))
            for name, entry in chosen.items()
        ]
        total = sum(entry.size for entry in chosen.values())
        present = sum(file.present for file in files)
        space.check(self.cache, needed=total - present, uri=self.uri)
        if self.progress is not None:
            self.progress.begin(total=total, present=present)
        self._load(store, files)
        if self.files is None:
            records.keep(self.cache, self.uri, folder, {n: e.size for n, e in chosen.items()})
        return folder

    def _load(self, store: "obstore.store.ObjectStore", files: Sequence["_File"]) -> None:
        """Download the parts that are missing; the first failure ends the others."""
        stop = threading.Event()

        def load(file: _File, part: int) -> None:
            if stop.is_set():
                return
            try:
                start = part * PART_BYTES
                end = min(start + PART_BYTES, file.entry.size)
                answer = obstore.get(
                    store,
                    file.entry.key,
                    options={"range": (start, end), "if_match": file.entry.tag},
                )
                content = memoryview(answer.bytes())
                if len(content) != end - start:
                    raise ConnectionError("the connection broke: peer closed it early")
                if file.write(part, content):
                    file.finish(uri=self.uri)
            except BaseException:
                stop.set()
                raise
            if self.progress is not None:
                self.progress.add(end - start)

        try:
            with ThreadPoolExecutor(self.connections) as pool:
                work = [
                    pool.submit(load, file, part) for file in files for part in file.missing_parts
                ]
                for each in work:
                    each.result()
            # NB: an earlier run may have been killed between the last part of a file and its renaming.
            for file in files:
                file.finish(uri=self.uri)
        finally:
            for file in files:
                file.close()

    def _list(self, store: "obstore.store.ObjectStore") -> dict[str, _Object]:
        """Return the objects below the prefix, by name relative to it."""
        found = {}
        prefix = f"{self.prefix}/" if self.prefix else ""
        for batch in obstore.list(store, prefix=self.prefix or None):
            for entry in batch:
                key = entry["path"]
                name = key.removeprefix(prefix)
                if not key.startswith(prefix) or not name:
                    continue
                selection.check_name(name, uri=self.uri)
                selection.check_not_empty({name: entry["size"]}, uri=self.uri)
                if entry["size"]:
                    found[name] = _Object(key, entry["size"], entry.get("e_tag"))
        if not found:
            raise EngineError(
                f"{self.uri}: bucket {self.bucket} has no object below {prefix or 'its root'}."
            )
        return found

    def _choose(
        self, store: "obstore.store.ObjectStore", listed: Mapping[str, _Object]
    ) -> list[str]:
        if self.files is not None:
            return selection.matching(listed, self.files)
        selection.check_form(listed, uri=self.uri)
        if selection.INDEX not in listed:
            return selection.choose(listed)
        text = self._small(store, listed[selection.INDEX])
        shards = selection.shards(text, uri=self.uri)
        selection.check_whole(shards, is_there=listed.__contains__, uri=self.uri)
        return selection.choose(listed, shards=shards)

    def _small(self, store: "obstore.store.ObjectStore", entry: _Object) -> bytes:
        return bytes(obstore.get(store, entry.key).bytes())


def store_of(scheme: str, bucket: str) -> "obstore.store.ObjectStore":
    """Return the client of a bucket, with the credentials of the Secret or of the pod."""
    if scheme == "gs":
        key = credentials.gs()
        return GCSStore(bucket, config=key, client_options=_client(_base(key)), retry_config=_RETRY)
    options = credentials.s3()
    endpoint = options.get("endpoint") or os.environ.get("AWS_ENDPOINT_URL", "")
    return S3Store(
        bucket,
        config=options,
        client_options=_client(endpoint),
        retry_config=_RETRY,
    )


class _File:
    """File of one object: each part is written at its offset, and listed as finished once the disk has it.

    It is open only from its first part to its last, because a model may have more files than a process can open.
    """

    def __init__(self, entry: _Object, path: Path, *, partial: Path) -> None:
        self.entry = entry
        self._path = path
        self._data = partial
        self._finished_parts = partial.with_suffix(".parts")
        self._lock = threading.Lock()
        self._file: int | None = None
        self._complete = path.is_file() and path.stat().st_size == entry.size
        self._done: set[int] = set() if self._complete else self._listed()

    @property
    def missing_parts(self) -> list[int]:
        """Numbers of the parts that are still to be downloaded."""
        if self._complete:
            return []
        return [part for part in range(self._parts) if part not in self._done]

    @property
    def present(self) -> int:
        """Bytes that are on the disk already."""
        if self._complete:
            return self.entry.size
        return min(len(self._done) * PART_BYTES, self.entry.size)

    def write(self, part: int, content: memoryview) -> bool:
        """Write one part, and list it once the disk has it; return whether the file now has all parts."""
        file = self._open()
        offset = part * PART_BYTES
        # NB: a disk that fills up may write only a part of the content, without an error.
        while content:
            written = os.pwrite(file, content, offset)
            content, offset = content[written:], offset + written
        os.fdatasync(file)
        with self._lock:
            with self._finished_parts.open("a") as notes:
                notes.write(f"{part:0{_NOTE_DIGITS}d}\n")
            self._done.add(part)
            return len(self._done) == self._parts

    def finish(self, *, uri: str) -> None:
        """Check the file's checksum and rename it; EngineError if the checksum differs from the store's."""
        if self._complete:
            return
        expected = _MD5.fullmatch(self.entry.tag or "")
        if expected and self._md5() != expected[1]:
            self._finished_parts.unlink(missing_ok=True)
            raise EngineError(
                f"{uri}: {self.entry.key} has a different checksum from the store's. It will be downloaded again."
            )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._data.replace(self._path)
        self._finished_parts.unlink(missing_ok=True)
        self._complete = True
        self.close()

    def close(self) -> None:
        """Release the file."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _open(self) -> int:
        """Return the partial file, opened at its full length so that parts can be written in any order."""
        with self._lock:
            if self._file is None:
                self._data.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(self._data, os.O_RDWR | os.O_CREAT, 0o644)
                os.truncate(self._file, self.entry.size)
            return self._file

    @property
    def _parts(self) -> int:
        return -(-self.entry.size // PART_BYTES)

    def _listed(self) -> set[int]:
        """Return the parts that an earlier run finished, if its partial file still exists."""
        if not self._data.is_file() or not self._finished_parts.is_file():
            return set()
        lines = self._finished_parts.read_text().splitlines()
        return {
            int(line)
            for line in lines
            # NB: a full disk may cut a line, and the next line then continues it; only complete lines count.
            if len(line) == _NOTE_DIGITS and line.isdecimal() and int(line) < self._parts
        }

    def _md5(self) -> str:
        with self._data.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def explain(error: BaseException, *, uri: str, bucket: str) -> str:
    """Return why a store could not be read, without the library's text, which may hold a signed URL."""
    text = str(error)
    code = re.search(r"<Code>(\w{1,64})</Code>", text)
    status = re.search(r"(?:non-2xx status code|status): ?(\d{3})", text)
    number = int(status[1]) if status else None
    if _IDENTITY.search(text):
        return (
            f"{uri}: there are no credentials in spec.model.credentials or from the pod's service account. "
            "Name a Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or with a Google key file, or a service "
            "account in spec.template.serviceAccountName."
        )
    if isinstance(error, exceptions.PreconditionError):
        return f"{uri}: an object changed during its download. It will be downloaded again."
    if code and code[1] == "NoSuchBucket":
        return f"{uri}: there is no bucket {bucket}."
    if isinstance(error, FileNotFoundError):
        return f"{uri}: an object of bucket {bucket} no longer exists."
    if code and code[1] in (
        "PermanentRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
    ):
        return f"{uri}: bucket {bucket} is in another region. Set AWS_REGION in the Secret or in spec.template.env."
    if number in (401, 403) or isinstance(
        error, (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
    ):
        said = f"{number or 403}{f' {code[1]}' if code else ''}"
        return (
            f"{uri}: access was refused ({said}). The credentials of spec.model.credentials or of the pod's service "
            f"account must allow listing and reading bucket {bucket}."
        )
    if isinstance(error, exceptions.InvalidPathError):
        return (
            f'{uri}: bucket {bucket} has an object whose key is not a path: it has an empty part, ".." or control '
            "characters. Remove it, or use another prefix."
        )
    if network.is_disk(error):
        return f"{uri}: the download stopped: {network.cause(error)}. Use a larger claim in spec.cache.model.claim."
    if local := network.local(error):
        return f"{uri}: its files can't be written to the cache: {local}."
    if number is not None:
        return f"{uri}: the store answered {number}{f' {code[1]}' if code else ''}."
    found = network.cause(error) or type(error).__name__
    return f"{uri}: the store can't be reached: {found}."


def _base(key: Mapping[str, str]) -> str:
    """Return the URL of another server than Google's in a key file, such as an emulator; empty without one."""
    try:
        return str(json.loads(key.get("service_account_key", "{}")).get("gcs_base_url", ""))
    except (ValueError, AttributeError):
        return ""


def _client(endpoint: str) -> "ClientConfig":
    """Return options of the HTTP client; it trusts a company's certificate authority beside the public ones."""
    options: ClientConfig = {
        "timeout": timedelta(seconds=_REQUEST_SECONDS),
        "connect_timeout": timedelta(seconds=20),
        "allow_http": endpoint.startswith("http://"),
    }
    bundle = os.environ.get("SSL_CERT_FILE")
    if bundle and Path(bundle).is_file():
        options["root_certificate"] = Path(bundle).read_text()
    return options


def _version(chosen: Mapping[str, _Object]) -> str:
    """Return a short name for these versions of these objects."""
    text = repr(sorted((name, entry.size, entry.tag) for name, entry in chosen.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
