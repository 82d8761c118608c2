"""Files of questions: the held-out ones that scores are taken from, and training ones for calibration."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from dev.models import language

PATH: Final = Path(__file__).parent / "heldout.jsonl"


def write(path: Path, items: Iterable[language.Item]) -> None:
    """One JSON object a line."""
    lines = (json.dumps({"task": i.task, "prompt": i.prompt, "answer": i.answer}) for i in items)
    path.write_text("".join(f"{line}\n" for line in lines))


def read(path: Path = PATH) -> list[dict[str, str]]:
    """Each with `task`, `prompt` and `answer`, as written."""
    return [json.loads(line) for line in path.read_text().splitlines()]
