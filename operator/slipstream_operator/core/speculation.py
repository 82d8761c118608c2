"""Switching off of speculation that does not pay off.

Engines use no draft tokens where these gain nothing. A draft model that is of no use still takes memory.
"""

import dataclasses
import hashlib
import json
import math
from typing import Final

from slipstream_operator.core.resolved import Resolved, Revisioned
from slipstream_operator.core.scaling.metrics.values import DraftTokens

EVIDENCE: Final = 200.0
"""Draft tokens in the last ten minutes that an acceptance must rest on. Engines whose draft tokens gain nothing only
draft in short windows, which are a few hundred tokens."""
_SURE: Final = 2.0
"""Standard errors by which an acceptance must be below its limit."""
PATIENCE: Final = 60.0
"""Seconds for which acceptance or gain must stay below its limit."""
USELESS: Final = 1.01
"""Gain below which speculation is of no use; engines choose draft tokens only for a larger one."""


@dataclasses.dataclass(frozen=True)
class SwitchedOff:
    """Record of speculation that was switched off."""

    speculation: str
    acceptance: float | None = None
    """Share of accepted draft tokens that was too low."""
    gain: float | None = None
    """Gain in decoding speed that was too low, such as 0.02 for 2 %."""

    @property
    def text(self) -> str:
        """Return the text that is stored in the service's state."""
        parts = {key: part for key, part in dataclasses.asdict(self).items() if part is not None}
        return json.dumps(parts, sort_keys=True)


def load(text: str) -> SwitchedOff | None:
    """Parse the stored text. Return None if it is invalid; speculation is then tried again."""
    try:
        found = json.loads(text)
        reason = {key: float(found[key]) for key in ("acceptance", "gain") if key in found}
        off = SwitchedOff(str(found["speculation"]), **reason)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    if len(reason) != 1 or not all(-1 <= value <= 1 for value in reason.values()):
        return None
    return off if off.acceptance is None or off.acceptance >= 0 else None


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
    acceptance = draft_tokens.acceptance
    if acceptance >= limit:
        return None, None
    error = math.sqrt(acceptance * (1 - acceptance) / draft_tokens.drafted)
    if acceptance + _SURE * error >= limit:
        return None, below_since
    since = now if below_since is None else below_since
    if now - since < PATIENCE:
        return None, since
    return SwitchedOff(speculation, acceptance=round(acceptance, 3)), since


def decide_by_gain(
    resolved: Resolved, gain: float | None, *, below_since: float | None, now: float
) -> tuple[SwitchedOff | None, float | None]:
    """Return the decision to switch off, if any, and the time since which the gain is below the limit.

    `gain` is the speed of decoding over that without draft tokens. An unknown one decides nothing.
    """
    limit, speculation = resolved.disable_below_gain, identity(resolved.revisioned)
    if limit is None or speculation is None:
        return None, None
    if gain is None:
        return None, below_since
    if gain - 1 >= limit:
        return None, None
    since = now if below_since is None else below_since
    if now - since < PATIENCE:
        return None, since
    return SwitchedOff(speculation, gain=round(gain - 1, 3)), since


def loss_since(gain: float | None, *, since: float | None, now: float) -> float | None:
    """Return the time since when speculation gains nothing; an unknown gain keeps it."""
    if gain is None:
        return since
    if gain >= USELESS:
        return None
    return now if since is None else since


def loss(gain: float | None, *, since: float | None, now: float) -> str | None:
    """Return the message once speculation has gained nothing for long enough; without figures, which move."""
    if gain is None or since is None or now - since < PATIENCE:
        return None
    return (
        "Draft tokens make decoding no faster at the present load (status.engine.speculationGain), so engines use "
        "few or none. Leave out spec.speculation, set disableBelowGain, or try another draft model."
    )


def applied(resolved: Resolved, off: SwitchedOff | None) -> Resolved:
    """Return the service without its speculation if that was switched off.

    Speculation is tried again with another draft, method, number of tokens or model, or with another artifact of their
    builds. It is tried again with a limit that the measured value meets, too.
    """
    config = resolved.revisioned.config
    if off is None or off.speculation != identity(resolved.revisioned):
        return resolved
    reason = _reason(resolved, off)
    if reason is None:
        return resolved
    plain = {key: part for key, part in config.items() if key != "speculation"}
    return dataclasses.replace(
        resolved,
        speculation=None,
        speculation_disabled=f"{resolved.speculation}: {reason}",
        revisioned=dataclasses.replace(resolved.revisioned, config=plain),
    )


def _reason(resolved: Resolved, off: SwitchedOff) -> str | None:
    """Return the measured value and the limit that it does not meet; None if it meets the present one."""
    least = resolved.disable_below
    if off.acceptance is not None and least is not None and off.acceptance < least:
        return (
            f"{off.acceptance:.1%} of the draft tokens were accepted, fewer than the {least:.0%} of "
            "spec.speculation.disableBelowAcceptance"
        )
    least = resolved.disable_below_gain
    if off.gain is not None and least is not None and off.gain < least:
        return (
            f"decoding was {max(off.gain, 0):.1%} faster, less than the {least:.0%} of "
            "spec.speculation.disableBelowGain"
        )
    return None


def identity(revisioned: Revisioned) -> str | None:
    """Return eight hexadecimal digits of a hash over model and speculation; None without speculation."""
    config, builds = revisioned.config, revisioned.builds
    if "speculation" not in config:
        return None
    parts = [config["model"]["uri"], config["speculation"], *([builds] if builds else [])]
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
