"""Downloads from the model hub or its mirror; failures are reported in terms of the service's fields.

The token must not appear in a log or a message.
"""

import dataclasses
import hashlib
import os
import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import huggingface_hub
from huggingface_hub import errors
from huggingface_hub.utils.tqdm import tqdm

from slipstream_runtime import logs
from slipstream_runtime.errors import EngineError, UnsuitableError
from slipstream_runtime.model_files import network, records, selection, space
from slipstream_runtime.model_files.progress import Progress

_READERS: Final = 4
"""Threads that compare checksums."""
LOOK_SECONDS: Final = 10.0
"""Seconds for the hub to name its present commit if the cache holds a complete copy, including name resolution."""
SILENCE_SECONDS: Final = 60.0
"""Seconds without a byte from the hub after which a request fails. The client library has no limit of its own."""
_COMMIT: Final = re.compile("[0-9a-f]{40}")
"""Revision that never changes."""


@dataclasses.dataclass(frozen=True)
class _File:
    """File of a repository: its size, its name in the cache, and its checksum if the hub has one."""

    size: int
    blob: str
    sha256: str | None


@dataclasses.dataclass(frozen=True)
class Download:
    """Download of one revision of a repository into the cache."""

    uri: str
    repository: str
    revision: str | None
    cache: Path
    token: str | None
    files: Sequence[str] | None = None
    """Patterns of the files to download; None downloads the files that vLLM reads."""
    progress: Progress | None = None

    def folder(self) -> Path:
        """Return the folder of a complete snapshot; files that the cache holds are not downloaded again.

        The hub is not asked for a pinned commit whose download the cache records. For another complete copy it is only
        asked for its present commit, once and for a limited time.
        """
        try:
            return self._current() or self._from_hub()
        except errors.HFValidationError as error:
            raise self._no_name() from error
        except EngineError:
            raise
        except Exception as error:
            # NB: the library's transport, and so its exceptions, change with its version.
            reason = explain(
                error, uri=self.uri, revision=self.revision, has_token=bool(self.token)
            )
            kept = None if network.is_disk(error) or _refused(error) else self._kept()
            if kept is None:
                raise EngineError(reason) from error
            logs.event("cached copy used", uri=self.uri, reason=reason)
            return kept

    def _no_name(self) -> UnsuitableError:
        return UnsuitableError(
            f'spec.model.uri: "{self.uri}" is not the name of a hub repository. Use hf://org/name.'
        )

    @property
    def held(self) -> Path:
        """Folder with the files of the repository that were downloaded, whole or in part."""
        return self._blobs

    def tidy(self) -> None:
        """Delete partial files of killed downloads, which the client can't resume."""
        for path in self._blobs.glob("*.incomplete"):
            path.unlink(missing_ok=True)

    def inspect(self) -> tuple[dict[str, int], bytes | None]:
        """Return the sizes of the files that would be downloaded, and the content of config.json if there is one."""
        try:
            commit, listed = self._list()
            sizes = {name: listed[name].size for name in self._choose(commit, listed)}
            config = (
                self._small(selection.CONFIG, commit=commit) if selection.CONFIG in listed else None
            )
        except errors.HFValidationError as error:
            raise self._no_name() from error
        except EngineError:
            raise
        except Exception as error:
            raise EngineError(
                explain(error, uri=self.uri, revision=self.revision, has_token=bool(self.token))
            ) from error
        return sizes, config

    def _current(self) -> Path | None:
        """Return the recorded download in the cache if it is that of the revision's present commit.

        Raise what keeps the hub from answering if the cache holds a copy that can be used without it.
        """
        recorded = None if self.files is not None else records.find(self.cache, self.uri)
        if recorded is not None and _COMMIT.fullmatch(self.revision or ""):
            return recorded
        if recorded is None and self._kept() is None:
            return None
        commit = self._present_commit()
        return recorded if recorded is not None and recorded.name == commit else None

    def _present_commit(self) -> str | None:
        """Ask the hub for the commit of the revision; TimeoutError if that takes longer than LOOK_SECONDS."""
        answer: Future[str | None] = Future()
        api, repository, revision = self._api, self.repository, self.revision

        def ask() -> None:
            try:
                found = api.model_info(repository, revision=revision, timeout=LOOK_SECONDS)
                answer.set_result(found.sha)
            except BaseException as error:
                answer.set_exception(error)

        # NB: the resolution of a name can't be interrupted, and a daemon keeps no process from ending.
        threading.Thread(target=ask, name="hub-look", daemon=True).start()
        return answer.result(timeout=LOOK_SECONDS)

    def _from_hub(self) -> Path:
        commit, listed = self._list()
        chosen = self._choose(commit, listed)
        selection.check_not_empty({name: listed[name].size for name in chosen}, uri=self.uri)
        missing = {name for name in chosen if not self._blob(listed[name]).exists()}
        self._begin(listed, chosen, missing)
        folder = Path(
            huggingface_hub.snapshot_download(
                self.repository,
                revision=commit,
                cache_dir=self._hub,
                token=self.token or False,
                endpoint=_endpoint(),
                allow_patterns=[_literal(name) for name in chosen],
                tqdm_class=_counting(self.progress) if self.progress else None,
            )
        )
        self._verify(folder, {name: listed[name] for name in missing})
        if self.files is None:
            records.keep(self.cache, self.uri, folder, {name: listed[name].size for name in chosen})
        return folder

    def _list(self) -> tuple[str, dict[str, _File]]:
        """Return the commit of the revision, and every file of it."""
        api = self._api
        commit = api.model_info(
            self.repository, revision=self.revision, timeout=SILENCE_SECONDS
        ).sha
        assert commit is not None
        listed = {
            entry.path: _File(
                size=entry.size,
                blob=entry.lfs.sha256 if entry.lfs else entry.blob_id,
                sha256=entry.lfs.sha256 if entry.lfs else None,
            )
            for entry in api.list_repo_tree(self.repository, recursive=True, revision=commit)
            if isinstance(entry, huggingface_hub.RepoFile)
        }
        for name in listed:
            selection.check_name(name, uri=self.uri)
        return commit, listed

    def _choose(self, commit: str, listed: Mapping[str, _File]) -> list[str]:
        if self.files is not None:
            return selection.matching(listed, self.files)
        selection.check_form(listed, uri=self.uri)
        if selection.INDEX not in listed:
            return selection.choose(listed)
        text = self._small(selection.INDEX, commit=commit)
        shards = selection.shards(text, uri=self.uri)
        selection.check_whole(shards, is_there=listed.__contains__, uri=self.uri)
        return selection.choose(listed, shards=shards)

    def _small(self, name: str, *, commit: str | None) -> bytes:
        return Path(
            huggingface_hub.hf_hub_download(
                self.repository,
                name,
                revision=commit,
                cache_dir=self._hub,
                token=self.token or False,
                endpoint=_endpoint(),
            )
        ).read_bytes()

    def _begin(self, listed: Mapping[str, _File], chosen: Sequence[str], missing: set[str]) -> None:
        """Check the free space, and add the download to the progress."""
        total = sum(listed[name].size for name in chosen)
        left = sum(listed[name].size for name in missing)
        space.check(self.cache, needed=left, uri=self.uri)
        if self.progress is not None:
            self.progress.begin(total=total, present=total - left)

    def _verify(self, folder: Path, fresh: Mapping[str, _File]) -> None:
        """Compare downloaded files with the hub's checksums; delete a file that differs, and raise EngineError."""
        checked = {name: file.sha256 for name, file in fresh.items() if file.sha256}
        with ThreadPoolExecutor(_READERS) as pool:
            found = dict(
                zip(checked, pool.map(lambda name: _sha256(folder / name), checked), strict=True)
            )
        for name, expected in checked.items():
            if found[name] != expected:
                (folder / name).resolve().unlink(missing_ok=True)
                (folder / name).unlink(missing_ok=True)
                raise EngineError(
                    f"{self.uri}: {name} has a different checksum from the hub's. It will be downloaded again."
                )

    def _kept(self) -> Path | None:
        """Return a complete copy in the cache, for use while the hub can't be reached; None if there is none."""
        if self.files is None and (found := records.find(self.cache, self.uri)) is not None:
            return found
        try:
            folder = Path(
                huggingface_hub.snapshot_download(
                    self.repository,
                    revision=self.revision,
                    cache_dir=self._hub,
                    local_files_only=True,
                    allow_patterns=None if self.files is None else list(self.files),
                    ignore_patterns=list(selection.NOT_NEEDED) if self.files is None else None,
                )
            )
        except Exception:
            # NB: the caller reports why the hub could not be reached, which matters more.
            return None
        index = folder / selection.INDEX
        if self.files is None and index.is_file():
            wanted = selection.shards(index.read_bytes(), uri=self.uri)
            return folder if all((folder / name).is_file() for name in wanted) else None
        if self.files is None and not selection.has_weights(path.name for path in folder.iterdir()):
            return None
        return folder

    def _blob(self, file: _File) -> Path:
        return self._blobs / file.blob

    @property
    def _api(self) -> huggingface_hub.HfApi:
        huggingface_hub.get_session().timeout = SILENCE_SECONDS
        return huggingface_hub.HfApi(endpoint=_endpoint(), token=self.token or False)

    @property
    def _hub(self) -> Path:
        return self.cache / "hub"

    @property
    def _blobs(self) -> Path:
        return self._hub / f"models--{self.repository.replace('/', '--')}" / "blobs"


def _refused(error: Exception) -> bool:
    """Whether the hub refused this token; then a copy that another token downloaded must not be used."""
    if isinstance(error, errors.RevisionNotFoundError):
        return False
    return isinstance(error, errors.HfHubHTTPError) and error.response.status_code in (401, 403)


def explain(error: Exception, *, uri: str, revision: str | None, has_token: bool) -> str:
    """Return one line on why the download failed."""
    access = (
        "for the token of spec.model.tokenSecret."
        if has_token
        else "and there is no token. Set spec.model.tokenSecret."
    )
    match error:
        case errors.GatedRepoError():
            return f"{uri}: the repository is gated {access}"
        case errors.RevisionNotFoundError():
            return f"{uri}: the repository has no revision {revision}."
        case errors.RepositoryNotFoundError():
            return f"{uri}: does not exist, or is private {access}"
        case errors.HfHubHTTPError() if error.response.status_code in (401, 403):
            return f"{uri}: access was refused ({error.response.status_code}) {access}"
        case errors.HfHubHTTPError():
            return f"{uri}: the hub answered {error.response.status_code}."
    found = network.cause(error)
    if network.is_disk(error):
        return (
            f"{uri}: the download stopped: {found}. Use a larger claim in spec.cache.model.claim."
        )
    if local := network.local(error):
        return f"{uri}: its files can't be written to the cache: {local}."
    return (
        f"{uri}: the hub can't be reached: {found or type(error).__name__}. The cache holds no copy. "
        "Set HF_ENDPOINT in spec.template.env for a mirror, or use pvc:// without a network."
    )


def _counting(progress: Progress) -> type[Any]:
    """Return a class of progress bars that draw nothing and count the bytes written to the disk."""

    class Counter(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._counts = str(kwargs.get("desc", "")).startswith("Reconstructing")
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            if self._counts and n:
                progress.add(int(n))
            return None

    return Counter


def _endpoint() -> str | None:
    """Return the URL of the mirror in HF_ENDPOINT; None for the public hub."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def _literal(name: str) -> str:
    """Return the pattern that only this name matches."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
