"""Prompts and options that make one request cost an engine as much as thousands."""

from typing import Final

from benchmarks.borders import wire
from benchmarks.borders.wire import Deadline, Target

_TEXT: Final = 15 * 1000 * 1000
"""Bytes of a prompt just below the limit of a body."""


async def truncated(target: Target, deadline: Deadline) -> None:
    """Send 15 MB of text, of which the engine is asked to keep ten tokens."""
    messages = [{"role": "user", "content": "word " * (_TEXT // 5)}]
    data = target.ask(messages=messages, truncate_prompt_tokens=10)
    await wire.sending(target, data, deadline, at_once=2)


async def messages(target: Target, deadline: Deadline) -> None:
    """Send 400,000 messages."""
    data = target.ask(messages=[{"role": "user", "content": "a"}] * 400_000)
    await wire.sending(target, data, deadline, at_once=2)


async def prompt_logprobs(target: Target, deadline: Deadline) -> None:
    """Ask for the probabilities of each token of long prompts."""
    content = "the quick brown fox " * 90
    data = target.ask(
        messages=[{"role": "user", "content": content}], prompt_logprobs=20, max_tokens=1
    )
    await wire.sending(target, data, deadline, at_once=16)


async def choices(target: Target, deadline: Deadline) -> None:
    """Ask for a thousand choices at once."""
    data = target.ask(n=1000, max_tokens=64, temperature=1.0, ignore_eos=True)
    await wire.sending(target, data, deadline, at_once=4)


async def biases(target: Target, deadline: Deadline) -> None:
    """Send many stops, biases and tools."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    data = target.ask(
        stop=[f"s{number}" for number in range(50_000)],
        logit_bias={str(number): 1 for number in range(800)},
        tools=[
            {**tool, "function": {"name": f"f{n}", "parameters": {"type": "object"}}}
            for n in range(20_000)
        ],
        ignore_eos=True,
        max_tokens=200,
    )
    await wire.sending(target, data, deadline, at_once=4)


async def flood(target: Target, deadline: Deadline) -> None:
    """Ask for long answers at the greatest rate of an attacker, and wait for each."""
    data = target.ask(max_tokens=1000, temperature=1.0, ignore_eos=True, stream=True)
    await wire.sending(target, data, deadline, at_once=1000)


async def deadly(target: Target, deadline: Deadline) -> None:
    """Send one request over and over of which an engine dies."""
    data = target.ask(messages=[{"role": "user", "content": "die"}])
    await wire.sending(target, data, deadline, at_once=1)
