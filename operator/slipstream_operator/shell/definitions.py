"""CustomResourceDefinitions of the kinds that a cluster may lack."""

from slipstream_operator import kinds, names
from slipstream_operator.shell.projections import Body


class Definitions:
    """Optional kinds that the cluster serves."""

    def __init__(self) -> None:
        self._served: set[str] = set()

    def feed(self, body: Body, *, gone: bool) -> bool:
        """Store one definition; return whether the cluster gained or lost a kind."""
        kind = kinds.BY_DEFINITION.get(body["metadata"]["name"])
        if kind is None:
            return False
        before = kind.name in self._served
        self._served.discard(kind.name)
        if not gone and _serves(body, kind.version):
            self._served.add(kind.name)
        return before != (kind.name in self._served)

    def has(self, kind: str) -> bool:
        """Whether the cluster has this optional kind."""
        return kind in self._served

    @property
    def has_gateway_kinds(self) -> bool:
        """Whether the cluster has the kinds that attach a service to a Gateway."""
        return self._served.issuperset(names.GATEWAY_CHILDREN)


def _serves(body: Body, version: str) -> bool:
    versions = body.get("spec", {}).get("versions", [])
    return any(entry["name"] == version and entry.get("served") for entry in versions)
