"""Comparison of observed objects with desired ones. Fields that others added don't count."""

from typing import Any, Final

from slipstream_operator.api import units

_ITEM_KEYS: Final = (
    "name",
    "mountPath",
    "containerPort",
    "port",
    "type",
    "uid",
    "topologyKey",
    "key",
)
"""Keys that identify the items of a list in server-side apply; the first key with distinct values is used."""


def difference(desired: Any, observed: Any, path: str = "") -> str | None:
    """Return the path of the first desired value that is missing or different; None if there is none."""
    if desired == observed:
        return None
    if isinstance(desired, dict):
        return _mapping_difference(desired, observed, path)
    if isinstance(desired, list):
        return _list_difference(desired, observed, path)
    return None if _same_quantity(desired, observed) else path


def _mapping_difference(desired: dict[str, Any], observed: Any, path: str) -> str | None:
    if not isinstance(observed, dict):
        return None if not desired and observed is None else path
    for key, value in desired.items():
        below = f"{path}.{key}" if path else key
        if key not in observed:
            if value in ({}, [], ""):
                continue  # the API server omits empty values
            return below
        if found := difference(value, observed[key], below):
            return found
    return None


def _list_difference(desired: list[Any], observed: Any, path: str) -> str | None:
    if not isinstance(observed, list):
        return None if not desired and observed is None else path
    key = _item_key(desired)
    if key is None:
        if len(desired) != len(observed):
            return path
        pairs = list(zip(desired, observed, strict=True))
    else:
        found = {item.get(key): item for item in observed if isinstance(item, dict)}
        pairs = [(item, found.get(item[key])) for item in desired]
    for index, (wanted, actual) in enumerate(pairs):
        below = f"{path}[{wanted[key] if key else index}]"
        if actual is None and wanted is not None:
            return below
        if mismatch := difference(wanted, actual, below):
            return mismatch
    return None


def _item_key(items: list[Any]) -> str | None:
    if not items or not all(isinstance(item, dict) for item in items):
        return None
    return next((key for key in _ITEM_KEYS if _tells_apart(key, items)), None)


def _tells_apart(key: str, items: list[dict[str, Any]]) -> bool:
    return len({item[key] for item in items if key in item}) == len(items)


def _same_quantity(desired: Any, observed: Any) -> bool:
    """Whether two quantities are equal: the API server writes 1000m as 1."""
    if not isinstance(desired, str) or not isinstance(observed, str):
        return False
    try:
        return units.quantity(desired) == units.quantity(observed)
    except ValueError:
        return False
