"""Error that the command line prints as a message instead of a traceback."""

from pathlib import Path


class DevError(Exception):
    """Error that the user can act on: the failure, its log and the remedy."""

    def __init__(self, message: str, *, log: Path | None = None, remedy: str | None = None) -> None:
        super().__init__(message)
        self.log = log
        self.remedy = remedy

    def __str__(self) -> str:
        lines = [super().__str__()]
        if self.log is not None:
            lines += [f"  log:    {self.log}", *_last_lines(self.log)]
        if self.remedy is not None:
            lines.append(f"  remedy: {self.remedy}")
        return "\n".join(lines)


def _last_lines(log: Path, *, count: int = 5) -> list[str]:
    if not log.is_file():
        return []
    return [f"          {line[:200]}" for line in log.read_text(errors="replace").splitlines()][
        -count:
    ]
