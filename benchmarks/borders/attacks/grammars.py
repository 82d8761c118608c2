"""Grammars, schemas and regular expressions that take a compiler minutes."""

from typing import Any

from benchmarks.borders import wire
from benchmarks.borders.wire import Deadline, Target


async def _structured(target: Target, deadline: Deadline, structured: dict[str, Any]) -> None:
    data = target.ask(structured_outputs=structured)
    await wire.sending(target, data, deadline, at_once=2)


def _object(**more: Any) -> dict[str, Any]:
    return {"type": "object", **more}


async def regex(target: Target, deadline: Deadline) -> None:
    """Send a regular expression of 1 MB."""
    await _structured(target, deadline, {"regex": "(a|b|c[d-f])" * 80_000})


async def nested_repeats(target: Target, deadline: Deadline) -> None:
    """Send a short regular expression whose repeats multiply."""
    await _structured(target, deadline, {"regex": "((((a{1,50}){1,50}){1,50}){1,50}){1,50}"})


async def grammar(target: Target, deadline: Deadline) -> None:
    """Send a grammar of 20,000 rules."""
    rules = "\n".join(f'r{n} ::= "a{n}" r{n + 1} | "b"' for n in range(20_000))
    await _structured(target, deadline, {"grammar": f'root ::= r0\n{rules}\nr20000 ::= "e"'})


async def schema(target: Target, deadline: Deadline) -> None:
    """Send a schema of 20,000 properties."""
    properties = {f"p{number}": {"type": "string"} for number in range(20_000)}
    await _structured(target, deadline, {"json": _object(properties=properties)})


async def patterns(target: Target, deadline: Deadline) -> None:
    """Send a schema of 8 KB with 200 patterns of properties."""
    found = {f"^p{number}[a-z]+$": {"type": "integer"} for number in range(200)}
    await _structured(target, deadline, {"json": _object(patternProperties=found)})


async def alternatives(target: Target, deadline: Deadline) -> None:
    """Send a schema of 1,000 alternatives."""
    found = [
        _object(properties={f"p{number}": {"type": "integer"}}, required=[f"p{number}"])
        for number in range(1000)
    ]
    await _structured(target, deadline, {"json": {"anyOf": found}})


async def choice(target: Target, deadline: Deadline) -> None:
    """Send 100,000 choices."""
    await _structured(
        target, deadline, {"choice": [f"choice-{number}" for number in range(100_000)]}
    )
