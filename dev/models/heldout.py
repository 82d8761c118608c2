"""The file of held-out questions that scores are taken from."""

import json
from pathlib import Path
from typing import Final

from dev.models import language

PATH: Final = Path(__file__).parent / "heldout.jsonl"


def write(path: Path = PATH) -> None:
    """One JSON object a line."""
    lines = (
        json.dumps({"task": i.task, "prompt": i.prompt, "answer": i.answer})
        for i in language.held_out()
    )
    path.write_text("".join(f"{line}\n" for line in lines))


def read() -> list[dict[str, str]]:
    """Each with `task`, `prompt` and `answer`, as written."""
    return [json.loads(line) for line in PATH.read_text().splitlines()]
