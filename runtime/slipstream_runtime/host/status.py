"""Facts of a running engine; filled in by the engine's thread, read by /status."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class AdapterStatus:
    """A LoRA adapter that the service wants; `reason` says why it is not loaded."""

    uri: str
    reason: str | None = None

    @property
    def loaded(self) -> bool:
        """Whether clients can ask for it."""
        return self.reason is None


@dataclasses.dataclass
class EngineStatus:
    """Facts about the running engine, for people and for the operator."""

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
    """What only one kind of engine has to tell."""

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
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
