"""Switching off of speculation that does not pay off.

A draft model whose tokens are mostly rejected costs more steps than it saves.
"""

import dataclasses
import hashlib
import json
from typing import Final

from slipstream_operator.core.resolved import Resolved, Revisioned
from slipstream_operator.core.scaling.metrics.values import DraftTokens

EVIDENCE: Final = 1000.0
"""Draft tokens in the last ten minutes that an acceptance must rest on."""
PATIENCE: Final = 60.0
"""Seconds for which acceptance must stay below the limit, or the gain below `LOSS`."""
LOSS: Final = 0.95
"""A gain below it is a loss, and not the scatter of its measurement."""


@dataclasses.dataclass(frozen=True)
class SwitchedOff:
    """Record of speculation that was switched off."""

    speculation: str
    acceptance: float

    @property
    def text(self) -> str:
        """Return the text that is stored in the service's state."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


def load(text: str) -> SwitchedOff | None:
    """Parse the stored text. Return None if it is invalid; speculation is then tried again."""
    try:
        found = json.loads(text)
        off = SwitchedOff(str(found["speculation"]), float(found["acceptance"]))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    return off if 0 <= off.acceptance <= 1 else None


def decide(
    resolved: Resolved, draft_tokens: DraftTokens | None, *, below_since: float | None, now: float
) -> tuple[SwitchedOff | None, float | None]:
    """Return the decision to switch off, if any, and the time since which acceptance is below the limit.

    Too few draft tokens decide nothing, and don't reset the time either.
    """
    limit, speculation = resolved.disable_below, identity(resolved.revisioned)
    if limit is None or speculation is None:
        return None, None
    if draft_tokens is None or draft_tokens.drafted < EVIDENCE:
        return None, below_since
    if draft_tokens.acceptance >= limit:
        return None, None
    since = now if below_since is None else below_since
    if now - since < PATIENCE:
        return None, since
    return SwitchedOff(speculation, round(draft_tokens.acceptance, 3)), since


def loss_since(gain: float | None, *, since: float | None, now: float) -> float | None:
    """Return the time since when speculation makes decoding slower beyond doubt; an unknown gain keeps it."""
    if gain is None:
        return since
    if gain >= LOSS:
        return None
    return now if since is None else since


def loss(gain: float | None, *, since: float | None, now: float) -> str | None:
    """Return the message once speculation has made decoding slower for long enough; without figures, which move."""
    if gain is None or since is None or now - since < PATIENCE:
        return None
    return (
        "Decoding is slower with speculation than without it (status.engine.speculationGain). Leave out "
        "spec.speculation, or try fewer tokens or another draft model."
    )


def applied(resolved: Resolved, off: SwitchedOff | None) -> Resolved:
    """Return the service without its speculation if that was switched off.

    Speculation is tried again with another draft, method, number of tokens or model, or with another artifact of their
    builds. It is tried again with a limit that the measured acceptance meets, too.
    """
    config, limit = resolved.revisioned.config, resolved.disable_below
    if off is None or limit is None or off.speculation != identity(resolved.revisioned):
        return resolved
    if off.acceptance >= limit:
        return resolved
    plain = {key: part for key, part in config.items() if key != "speculation"}
    return dataclasses.replace(
        resolved,
        speculation=None,
        speculation_disabled=f"{resolved.speculation}: {off.acceptance:.1%} of the draft tokens were accepted, "
        f"fewer than the {limit:.0%} of spec.speculation.disableBelowAcceptance",
        revisioned=dataclasses.replace(resolved.revisioned, config=plain),
    )


def identity(revisioned: Revisioned) -> str | None:
    """Return eight hexadecimal digits of a hash over model and speculation; None without speculation."""
    config, builds = revisioned.config, revisioned.builds
    if "speculation" not in config:
        return None
    parts = [config["model"]["uri"], config["speculation"], *([builds] if builds else [])]
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
