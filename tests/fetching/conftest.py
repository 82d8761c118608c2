"""Servers that models are downloaded from, each started once."""

from collections.abc import Iterator

import pytest

from tests.support import stores


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.Store]:
    with stores.serve(tmp_path_factory.mktemp("store")) as served:
        yield served


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's own reaches a client."""
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
