"""Tokens that engines accept from the router: one for each service."""

from collections.abc import Callable, Mapping

from slipstream_runtime.router import config
from slipstream_runtime.router.tenants.key_secrets import KeySecrets


class EngineTokens:
    """Tokens by the name of a revision, from a Secret that the router watches.

    Engines of a revision without an entry accept the router's own token.
    """

    def __init__(self, secrets: KeySecrets, *, own: Callable[[], str | None]) -> None:
        self._secrets = secrets
        self._own = own
        self._secret: str | None = None
        self._entries: Mapping[str, str] = {}

    def configure(self, settings: config.Config) -> None:
        """Apply a new configuration."""
        self._secret = settings.engine_tokens.secret if settings.engine_tokens else None
        self._entries = {
            revision.name: revision.token
            for service in settings.services
            for revision in service.revisions
            if revision.token is not None
        }

    @property
    def tried(self) -> bool:
        """Whether the Secret was read, or could not be."""
        return self._secret is None or self._secrets.tried(self._secret)

    def value(self, revision: str) -> str | None:
        """Return the token for engines of the revision; None if there is none."""
        entry = self._entries.get(revision)
        if entry is None:
            return self._own()
        found = None if self._secret is None else self._secrets.content(self._secret)
        text = (found or {}).get(entry, b"").decode("latin-1").strip()
        return text or None
