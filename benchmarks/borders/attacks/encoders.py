"""Inputs of an encoder that are longer, or more, than its model can use."""

from benchmarks.borders import wire
from benchmarks.borders.attacks import bodies
from benchmarks.borders.wire import Deadline, Target

PATH = "/v1/embeddings"


async def long_text(target: Target, deadline: Deadline) -> None:
    """Send a text of 15 MB for a model of 256 tokens."""
    data = target.ask(PATH, input="word " * 3_000_000, truncate_prompt_tokens=10)
    await wire.sending(target, data, deadline, at_once=2)


async def many_texts(target: Target, deadline: Deadline) -> None:
    """Send 2,048 inputs at once."""
    await wire.sending(target, target.ask(PATH, input=["hi"] * 2048), deadline, at_once=2)


async def long_texts(target: Target, deadline: Deadline) -> None:
    """Send 2,048 inputs of 200 words."""
    text = "the quick brown fox jumps " * 40
    await wire.sending(target, target.ask(PATH, input=[text] * 2048), deadline, at_once=2)


async def empty_lists(target: Target, deadline: Deadline) -> None:
    """Send a body of 16 MiB of lists."""
    body = bodies.filled(target.model, "[],").replace(b'"x":', b'"input":', 1)
    await wire.sending(target, target.request(PATH, body), deadline, at_once=2)
