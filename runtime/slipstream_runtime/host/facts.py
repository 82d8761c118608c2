"""What is only known once the engine runs; filled in by the engine's thread, read by /status."""

import dataclasses


@dataclasses.dataclass
class Facts:
    """Facts about the running engine, for people and for the operator."""

    model: str
    arguments: list[str] = dataclasses.field(default_factory=list)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    kv_capacity_tokens: int | None = None
    max_model_length: int | None = None
    details: dict[str, object] = dataclasses.field(default_factory=dict)
    """What only one kind of engine has to tell."""

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "model": self.model,
            "versions": dict(self.versions),
            "kvCapacityTokens": self.kv_capacity_tokens,
            "maxModelLength": self.max_model_length,
            "arguments": list(self.arguments),
            **self.details,
        }
