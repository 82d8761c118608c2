"""Status of a running engine, which the engine's thread fills in and /status shows."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class AdapterStatus:
    """LoRA adapter that the service lists; `reason` says why it is not loaded."""

    uri: str
    reason: str | None = None

    @property
    def loaded(self) -> bool:
        """Whether clients can use it."""
        return self.reason is None


@dataclasses.dataclass
class EngineStatus:
    """Status of the engine, for people and for the operator."""

    model: str
    arguments: list[str] = dataclasses.field(default_factory=list)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    kv_capacity_tokens: int | None = None
    """Capacity of the KV cache of one data-parallel engine."""
    max_sequences: int | None = None
    """Sequences that run at once, in all data-parallel engines together."""
    max_model_length: int | None = None
    adapters: dict[str, AdapterStatus] = dataclasses.field(default_factory=dict)
    details: dict[str, object] = dataclasses.field(default_factory=dict)
    """Entries that only one kind of engine has."""

    def as_dict(self) -> dict[str, object]:
        """Return the status for JSON."""
        return {
            "model": self.model,
            "versions": dict(self.versions),
            "kvCapacityTokens": self.kv_capacity_tokens,
            "maxSequences": self.max_sequences,
            "maxModelLength": self.max_model_length,
            "adapters": {
                name: {"uri": adapter.uri, "loaded": adapter.loaded, "reason": adapter.reason}
                for name, adapter in self.adapters.copy().items()
            },
            "arguments": list(self.arguments),
            **self.details,
        }
