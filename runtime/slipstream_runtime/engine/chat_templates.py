"""Chat template that the service sets: text, a file of the model, or the key of a ConfigMap."""

import contextlib
from pathlib import Path

from slipstream_runtime import contract
from slipstream_runtime.engine.config import ConfigMapKey, Model
from slipstream_runtime.errors import EngineError, UnsuitableError


def given(model: Model, folder: Path, *, mounted: Path | None = None) -> str | None:
    """Return the text of the template; None if the model in this folder has its own.

    `mounted` is the file with the key of the ConfigMap. EngineError if the file is missing.
    """
    if model.chat_template_from is not None:
        return _mounted(model.chat_template_from, mounted or Path(contract.CHAT_TEMPLATE_FILE))
    if model.chat_template is None or is_inline(model):
        return model.chat_template
    return _of_the_model(folder, model.chat_template)


def is_inline(model: Model) -> bool:
    """Whether spec.model.chatTemplate is the text itself."""
    return model.chat_template is not None and "{" in model.chat_template


def field(model: Model) -> str | None:
    """Return the field that sets the template; None if the model has its own."""
    if model.chat_template_from is not None:
        return "spec.model.chatTemplateFrom"
    return None if model.chat_template is None else "spec.model.chatTemplate"


def argument(model: Model, folder: Path) -> str | Path | None:
    """Return vLLM's argument."""
    if model.chat_template_from is not None:
        return Path(contract.CHAT_TEMPLATE_FILE)
    if model.chat_template is None or is_inline(model):
        return model.chat_template
    return folder / model.chat_template


def _mounted(source: ConfigMapKey, file: Path) -> str:
    text = ""
    with contextlib.suppress(OSError):
        text = file.read_text(errors="replace")
    if not text.strip():
        raise EngineError(
            f'spec.model.chatTemplateFrom: there is no ConfigMap "{source.name}" whose key "{source.key}" has text. '
            "Create it in the namespace of the service."
        )
    return text


def _of_the_model(folder: Path, name: str) -> str:
    if not Path(name).is_absolute() and ".." not in Path(name).parts:
        # NB: files of the hub's cache are links that lead out of the folder.
        with contextlib.suppress(OSError):
            return (folder / name).read_text(errors="replace")
    raise UnsuitableError(
        f'spec.model.chatTemplate: "{name}" can\'t work because the model has no such file. Use the name of a file '
        "of the model, or the text of a Jinja template."
    )
