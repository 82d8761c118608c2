"""Search service as a process, and texts that it finds."""

from pathlib import Path

from tests.support.processes import Process

MODULE = "slipstream_runtime.retrieval"
HANDBOOK = """# Harbour

The harbour of Dibramia has seven cranes. Ships wait for the pilot at the outer buoy.

# Fees

The deposit for a berth is forty florins. It is paid back when the ship leaves.

# Animals

Kittens sleep in the harbour office. Nobody may feed the gulls.

# Weather

In a storm, a red flag flies on the lighthouse and small boats stay in port.
"""


class Search(Process):
    """One search service."""

    def __init__(self, folder: Path, index: Path, *, embeddings: str, model: str) -> None:
        self.log = folder / "log"
        options = ["serve", str(index), "--embeddings", f"{embeddings}/v1", "--model", model]
        self._start(MODULE, options)
