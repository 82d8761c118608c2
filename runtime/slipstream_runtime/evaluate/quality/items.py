"""Items of a dataset: JSON lines with a question, and with whatever its answer is scored against. Pure."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from slipstream_runtime import contract
from slipstream_runtime.errors import UnsuitableError

NAMED: Final = 5
"""Number of bad lines that an error names."""
_ROLES: Final = ("system", "developer", "user", "assistant", "tool")
Message = Mapping[str, str]


class _LineError(Exception):
    """Reason for which a line is no item."""


@dataclass(frozen=True, slots=True)
class Item:
    """Question, or text, of a dataset."""

    name: str
    """Value of the field `id`, or the number of the line."""
    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    """Question as written; None if the line has `messages` or `text`."""
    text: str | None = None
    """Text whose perplexity is measured."""
    references: tuple[str, ...] = ()
    """Right answers; one of them suffices."""
    choices: tuple[str, ...] = ()
    answer: int | None = None
    """Index of the right choice."""
    schema: Mapping[str, Any] | None = None
    """JSON schema that the answer must follow."""
    slice: str = ""

    @property
    def asks(self) -> bool:
        """Whether the item is a question, and not a text."""
        return self.text is None

    @property
    def content(self) -> str:
        """Everything that decides the item's score. Items with equal contents are one item."""
        parts = [self.messages, self.prompt, self.text, self.references, self.choices, self.schema]
        return json.dumps(parts, sort_keys=True, ensure_ascii=False)

    @property
    def conversation(self) -> tuple[Message, ...]:
        """Question as messages of a chat."""
        return self.messages or ({"role": "user", "content": self.prompt or ""},)


def parse(lines: Iterable[str], *, fields: Mapping[str, str], source: str) -> tuple[Item, ...]:
    """Parse the lines; UnsuitableError names the bad lines by number.

    `fields` maps names of this module to those of the dataset, such as reference -> answer.
    """
    items: list[Item] = []
    wrong: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            items.append(_item(line, number=number, fields=fields))
        except _LineError as error:
            wrong.append(f"line {number}: {error}")
    if wrong:
        more = f" {len(wrong) - NAMED} more lines are bad." if len(wrong) > NAMED else ""
        raise UnsuitableError(f"{source}: {' '.join(wrong[:NAMED])}{more}")
    if not items:
        raise UnsuitableError(f"{source}: has no items. Write one JSON object on each line.")
    _check_names(items, source=source)
    return tuple(items)


def _check_names(items: Sequence[Item], *, source: str) -> None:
    seen: set[str] = set()
    for item in items:
        if item.name in seen:
            raise UnsuitableError(f'{source}: id "{item.name}" occurs twice. Make ids unique.')
        seen.add(item.name)


def _item(line: str, *, number: int, fields: Mapping[str, str]) -> Item:
    try:
        entry = json.loads(line, object_pairs_hook=_object, parse_constant=_constant)
        # NB: half of a surrogate pair is valid in JSON, and no text that can be sent or written.
        json.dumps(entry, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise _LineError("has half of a surrogate pair, which is no character.") from None
    except ValueError as error:
        raise _LineError(f"is not JSON ({error}).") from error
    except RecursionError:
        raise _LineError("is nested too deeply.") from None
    if not isinstance(entry, dict):
        raise _LineError("is not a JSON object.")
    found = {name: entry.get(fields.get(name, name)) for name in _READERS}
    given = [name for name in ("prompt", "messages", "text") if found[name] is not None]
    if len(given) != 1:
        raise _LineError(
            f"has {' and '.join(given) or 'no prompt, messages or text'}. Give exactly one of the three."
        )
    values = {name: read(found[name]) for name, read in _READERS.items()}
    choices, references = values["choices"], values["reference"]
    return Item(
        name=values["id"] or str(number),
        messages=values["messages"],
        prompt=values["prompt"],
        text=values["text"],
        references=references,
        choices=choices,
        answer=_answer(choices, references) if choices else None,
        schema=values["schema"],
        slice=values["slice"] or _text("task")(entry.get("task")) or "",
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, number in Counter(n for n, _ in pairs).items() if number > 1)
        raise _LineError(f'has the field "{twice}" twice.')
    return found


def _constant(name: str) -> None:
    raise _LineError(f"has the value {name}, which JSON does not have.")


def _answer(choices: Sequence[str], references: Sequence[str]) -> int:
    """Return the index of the right choice, which `reference` names by its text."""
    if len(choices) < 2:
        raise _LineError("has only one choice, which is always right. Give at least two.")
    right = [number for number, choice in enumerate(choices) if choice in references]
    if len(right) != 1:
        raise _LineError(
            f"has {len(right)} choices that equal its reference. Make exactly one equal it."
        )
    return right[0]


def _text(name: str) -> Any:
    def read(value: object) -> str | None:
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            raise _LineError(f"{name} is not a text.")
        if not value:
            raise _LineError(f"{name} is empty.")
        return value

    return read


def _texts(name: str) -> Any:
    def read(value: object) -> tuple[str, ...]:
        if value is None:
            return ()
        if not isinstance(value, list):
            value = [value]
        texts = [_text(name)(part) for part in value]
        if None in texts:
            raise _LineError(f"{name} is not a text.")
        return tuple(text for text in texts if text is not None)

    return read


def _messages(value: object) -> tuple[Message, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not value:
        raise _LineError("messages is not a list of messages.")
    for message in value:
        good = (
            isinstance(message, dict)
            and message.get("role") in _ROLES
            and isinstance(message.get("content"), str)
        )
        if not good:
            raise _LineError("messages has an entry without a known role and a text as content.")
    return tuple({"role": entry["role"], "content": entry["content"]} for entry in value)


def _schema(value: object) -> Mapping[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise _LineError("schema is not a JSON object.")
    # NB: few datasets have schemas.
    from slipstream_runtime.evaluate.quality import schemas  # noqa: PLC0415

    if (fault := schemas.fault(value)) is not None:
        raise _LineError(f"{fault}.")
    return value


_READERS: Final[Mapping[str, Any]] = {
    "id": _text("id"),
    "prompt": _text("prompt"),
    "messages": _messages,
    "text": _text("text"),
    "reference": _texts("reference"),
    "choices": _texts("choices"),
    "schema": _schema,
    "slice": _text("slice"),
}
"""Field -> its reader."""
FIELDS: Final = contract.ITEM_FIELDS
assert set(FIELDS) == set(_READERS)
