"""Record of one cluster between invocations: a small JSON file in its folder."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dev.processes import Process


@dataclass
class Record:
    """Requested shape of a cluster, its processes and the phases of its boot."""

    index: int
    binaries: str
    control_plane_only: bool = False
    nodes: int = 0
    booted: bool = False
    phases: dict[str, float] = field(default_factory=dict)
    components: dict[str, Process] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        partial = folder / ".cluster.json.partial"
        partial.write_text(json.dumps(asdict(self), indent=1))
        partial.rename(folder / "cluster.json")


def load(folder: Path) -> Record | None:
    """Return the record in the folder; None if there is none or the file is damaged."""
    try:
        fields = json.loads((folder / "cluster.json").read_text())
        components = fields.pop("components")
        started = {name: Process(**process) for name, process in components.items()}
        return Record(**fields, components=started)
    except (OSError, ValueError, KeyError, TypeError):
        return None
