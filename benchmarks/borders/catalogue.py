"""All attacks by name, with the port that each goes to and the service whose clients it must not reach."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from benchmarks.borders.attacks import (
    bodies,
    connections,
    encoders,
    engines,
    grammars,
    heads,
    pictures,
    prompts,
    tenants,
)
from benchmarks.borders.wire import Deadline, Target

Run = Callable[[Target, Deadline], Awaitable[int | None]]
"""An attack; it may return the number of borders that it crossed."""


@dataclass(frozen=True)
class Attack:
    """One attack."""

    run: Run
    target: str
    """Field of `Targets` to attack."""
    victim: str = "chat"
    """Field of `Targets` that the other client uses."""
    seconds: float = 10.0

    @property
    def text(self) -> str:
        """Return what the attacker does, in one line."""
        return (self.run.__doc__ or "").strip().splitlines()[0]

    def needs(self, engine: str) -> bool:
        """Whether it needs the engine `encoder` or `vision`, which not every machine can run."""
        return engine in (self.victim, self.target)


ATTACKS: Final = {
    "nested-lists": Attack(bodies.brackets, "chat"),
    "nested-lists-without-key": Attack(bodies.brackets, "open"),
    "lists": Attack(bodies.empty_lists, "chat"),
    "numbers": Attack(bodies.numbers, "chat"),
    "unfinished-bodies": Attack(bodies.unfinished, "open"),
    "idle-connections": Attack(connections.idle, "open"),
    "half-heads": Attack(heads.half, "open"),
    "slow-readers": Attack(connections.slow_readers, "chat", seconds=20.0),
    "shared-answer": Attack(connections.shared_leader, "open", victim="shared", seconds=20.0),
    "offers-of-upgrade": Attack(connections.upgrades, "chat"),
    "endless-head-router": Attack(heads.endless, "open"),
    "endless-head-engine": Attack(heads.endless, "engine"),
    "endless-line-engine": Attack(heads.long_line, "engine"),
    "endless-head-management": Attack(heads.endless, "management"),
    "endless-head-router-management": Attack(heads.endless, "router_management"),
    "half-heads-engine": Attack(heads.half, "engine"),
    "half-heads-management": Attack(heads.half, "management"),
    "truncated-prompt": Attack(prompts.truncated, "chat", seconds=30.0),
    "many-messages": Attack(prompts.messages, "chat"),
    "prompt-logprobs": Attack(prompts.prompt_logprobs, "chat"),
    "many-choices": Attack(prompts.choices, "chat"),
    "many-stops-and-tools": Attack(prompts.biases, "chat"),
    "flood": Attack(prompts.flood, "chat", seconds=20.0),
    "large-regex": Attack(grammars.regex, "chat"),
    "nested-repeats": Attack(grammars.nested_repeats, "chat"),
    "large-grammar": Attack(grammars.grammar, "chat"),
    "large-schema": Attack(grammars.schema, "chat"),
    "pattern-properties": Attack(grammars.patterns, "chat"),
    "alternatives": Attack(grammars.alternatives, "chat"),
    "large-choice": Attack(grammars.choice, "chat"),
    "priority-in-body": Attack(tenants.priority, "chat", seconds=20.0),
    "budget-by-floats": Attack(tenants.floats, "paid", seconds=20.0),
    "budget-over-two-routers": Attack(tenants.over_routers, "paid", seconds=20.0),
    "documents-of-keys": Attack(tenants.documents, "fragile"),
    "endless-event": Attack(engines.events, "hostile"),
    "event-in-parts": Attack(engines.chunks, "hostile"),
    "endless-answer": Attack(engines.bodies, "hostile"),
    "endless-head-of-answer": Attack(engines.heads, "hostile"),
    "answer-with-script": Attack(engines.scripts, "hostile"),
    "deadly-request": Attack(prompts.deadly, "fragile", victim="fragile"),
    "large-picture": Attack(pictures.large, "vision", victim="vision"),
    "large-pictures": Attack(pictures.several, "vision", victim="vision"),
    "many-pictures": Attack(pictures.many, "vision", victim="vision"),
    "pictures-by-address": Attack(pictures.addresses, "vision", victim="vision"),
    "encoder-long-text": Attack(encoders.long_text, "encoder", victim="encoder"),
    "encoder-many-texts": Attack(encoders.many_texts, "encoder", victim="encoder"),
    "encoder-long-texts": Attack(encoders.long_texts, "encoder", victim="encoder"),
    "encoder-lists": Attack(encoders.empty_lists, "encoder", victim="encoder"),
    "endless-head-encoder": Attack(heads.endless, "encoder_port", victim="encoder"),
}
