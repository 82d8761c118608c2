"""Facts about a service's checkpoints: size and configuration, from the report of the Job that inspects them.

The report is JSON: `{"model": {"uri": "hf://org/name", "bytes": 16381470720, "config": {...}}, "draft": {...}}`, where
`config` holds the keys of the checkpoint's config.json that `contract.FACT_KEYS` names. A fact that is missing or
malformed is unknown; an unknown fact never refuses a service.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Final

LARGEST: Final = 10**15
"""Maximum plausible size in bytes: a petabyte."""
LONGEST: Final = 16_384
"""Characters of a report: the kubelet keeps 4,096 bytes of it."""


@dataclasses.dataclass(frozen=True)
class ModelFacts:
    """Facts about one checkpoint."""

    bytes: int | None = None
    """Size of the weights as stored, in one format only; None if unknown."""
    config: Mapping[str, Any] | None = None
    """Content of config.json, or its keys in `contract.FACT_KEYS`; None if unknown."""
    uri: str | None = None
    """Source of the checkpoint; None if unknown."""

    def concerns(self, uri: str | None) -> bool:
        """Whether the facts may be about this source, and not about a former one."""
        return self.uri is None or self.uri == uri


@dataclasses.dataclass(frozen=True)
class Facts:
    """Facts about a service's model and its draft model."""

    model: ModelFacts = ModelFacts()
    draft: ModelFacts = ModelFacts()

    def weights(self, model: str | None, draft: str | None) -> int | None:
        """Return the bytes of the weights of these sources together; None if one is unknown."""
        wanted = [(self.model, model), *([(self.draft, draft)] if draft else [])]
        sizes = [facts.bytes if facts.concerns(uri) else None for facts, uri in wanted]
        known = [size for size in sizes if size is not None]
        return sum(known) if len(known) == len(sizes) else None


def parse(text: str) -> Facts | None:
    """Return the facts of a report; None if the text is invalid."""
    if len(text) > LONGEST:
        return None
    try:
        report = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(report, dict):
        return None
    return Facts(model=_model(report.get("model")), draft=_model(report.get("draft")))


def _model(entry: object) -> ModelFacts:
    if not isinstance(entry, dict):
        return ModelFacts()
    size, config, uri = entry.get("bytes"), entry.get("config"), entry.get("uri")
    return ModelFacts(
        bytes=size
        if isinstance(size, int) and not isinstance(size, bool) and 0 < size <= LARGEST
        else None,
        config=config if isinstance(config, dict) and config else None,
        uri=uri if isinstance(uri, str) and uri else None,
    )
