"""Downloads from the model hub, with every failure told in terms of the service's fields.

Nothing here may log or repeat the token.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import huggingface_hub
from huggingface_hub import errors

from slipstream_runtime.host.errors import EngineError, UnsuitableError

_NOT_NEEDED: Final = (
    "original/*",
    "onnx/*",
    "*.gguf",
    "*.onnx",
    "*.h5",
    "*.msgpack",
    "*.ot",
    "*.pth",
)
"""Other copies of the same weights, which vLLM does not read."""


def download(
    uri: str,
    repository: str,
    *,
    revision: str | None,
    cache: Path,
    token: str | None,
    files: Sequence[str] | None = None,
) -> Path:
    """The folder of a snapshot; what the cache holds already is not loaded again.

    `files` are patterns of what is needed; without them, it is what vLLM needs.
    """
    ignored = [] if files is not None else list(_NOT_NEEDED)
    if files is None and _has_safetensors(repository, revision=revision, token=token):
        ignored.append("*.bin")
    try:
        return Path(
            huggingface_hub.snapshot_download(
                repository,
                revision=revision,
                cache_dir=cache / "hub",
                token=token or False,
                allow_patterns=None if files is None else list(files),
                ignore_patterns=ignored,
            )
        )
    except errors.HFValidationError as error:
        raise UnsuitableError(
            f'spec.model.uri: "{uri}" is not the name of a hub repository'
        ) from error
    except Exception as error:
        # NB: the library's transport, and so its exceptions, change with its version.
        raise EngineError(
            explain(error, uri=uri, revision=revision, has_token=bool(token))
        ) from error


def explain(error: Exception, *, uri: str, revision: str | None, has_token: bool) -> str:
    """One line on why the download failed."""
    access = (
        "for the token of spec.model.tokenSecret"
        if has_token
        else "and there is no token. Set spec.model.tokenSecret"
    )
    match error:
        case errors.GatedRepoError():
            return f"{uri}: is gated {access}"
        case errors.RevisionNotFoundError():
            return f"{uri}: the repository has no revision {revision}"
        case errors.RepositoryNotFoundError():
            return f"{uri}: does not exist, or is private {access}"
        case errors.HfHubHTTPError() if error.response.status_code in (401, 403):
            return f"{uri}: was refused ({error.response.status_code}) {access}"
        case errors.HfHubHTTPError():
            return f"{uri}: the hub answered {error.response.status_code}"
        case _:
            return (
                f"{uri}: the hub cannot be reached ({type(error).__name__}) and the cache holds no copy. "
                "Use pvc:// where there is no network"
            )


def _has_safetensors(repository: str, *, revision: str | None, token: str | None) -> bool:
    """Whether pickled weights would be a second copy; False where the hub does not say."""
    try:
        names = huggingface_hub.HfApi().list_repo_files(
            repository, revision=revision, token=token or False
        )
    except Exception:
        # NB: the download that follows fails for the same cause, and tells it.
        return False
    return any(name.endswith(".safetensors") for name in names)
