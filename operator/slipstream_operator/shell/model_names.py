"""Model names that services claim. The oldest service of a namespace holds a name."""

from collections.abc import Mapping

from slipstream_operator.core.observed import Key, Parent


class ModelNames:
    """Claims of all services, by namespace and model name."""

    def __init__(self) -> None:
        self._claims: dict[tuple[str, str], dict[Key, Parent]] = {}

    def update(self, before: Parent | None, after: Parent | None) -> set[Key]:
        """Move a service's claim; return the keys of the services that claimed its former or new name before."""
        claimed = [
            (parent.key.namespace, model_name(parent))
            for parent in (before, after)
            if parent is not None
        ]
        rivals = {key for name in claimed for key in self._claims.get(name, {})}
        if before is not None:
            claims = self._claims[claimed[0]]
            del claims[before.key]
            if not claims:
                del self._claims[claimed[0]]
        if after is not None:
            self._claims.setdefault(claimed[-1], {})[after.key] = after
        return rivals

    def holders(self, parent: Parent) -> dict[str, Key]:
        """Return the service's model name, mapped to the key of its holder; empty if the name is free."""
        name = model_name(parent)
        claims = [
            rival
            for rival in self._claims.get((parent.key.namespace, name), {}).values()
            if not rival.deleting
        ]
        if not claims:
            return {}
        oldest = min(claims, key=lambda rival: (rival.created, rival.key))
        return {name: oldest.key}


def model_name(parent: Parent) -> str:
    """Return the model name that clients use for this service."""
    model = parent.spec.get("model")
    return (model.get("name") if isinstance(model, Mapping) else None) or parent.key.name


def claim(parent: Parent) -> tuple[str, str, bool]:
    """Return the fields of a service on which the holder of its model name depends."""
    return model_name(parent), parent.created, parent.deleting
