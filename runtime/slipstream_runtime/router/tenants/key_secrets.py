"""Contents of the Secrets with API keys that the router watches."""

from collections.abc import Collection, Mapping

Entries = Mapping[str, bytes]
"""Content of each entry of a Secret, by its name."""


class KeySecrets:
    """Contents by the name of the Secret."""

    def __init__(self) -> None:
        self._contents: dict[str, Entries | None] = {}

    def put(self, name: str, entries: Entries | None) -> None:
        """Store the content of a Secret; None if it could not be read. A content that was read before stays then."""
        self._contents[name] = entries if entries is not None else self._contents.get(name)

    def keep(self, names: Collection[str]) -> None:
        """Forget all Secrets but these."""
        self._contents = {name: found for name, found in self._contents.items() if name in names}

    def content(self, name: str) -> Entries | None:
        """Return the content of the Secret; None if it is not known."""
        return self._contents.get(name)

    def bearer(self, name: str, entry: str) -> str | None:
        """Return the key in an entry, as a header can carry it; None if there is none."""
        text = (self.content(name) or {}).get(entry, b"").decode("latin-1").strip()
        return text if text.isprintable() and text else None

    def tried(self, name: str) -> bool:
        """Whether the Secret was read, or could not be."""
        return name in self._contents


class WatchedSecret:
    """One Secret as a source of a keyring."""

    def __init__(self, secrets: KeySecrets, name: str) -> None:
        self._secrets = secrets
        self._name = name
        self._last: Entries | None = None

    @property
    def known(self) -> bool:
        """Whether the content is known."""
        return self._secrets.content(self._name) is not None

    def changed(self) -> Entries | None:
        """Return the entries if they may differ from those of the last call; otherwise None."""
        found = self._secrets.content(self._name)
        if found is self._last:
            return None
        self._last = found
        return found
