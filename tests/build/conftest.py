"""Parts of builds that tests share: a registry, and stages in the builder's environment."""

from collections.abc import Iterator

import pytest

from dev.cluster import registry
from dev.cluster.registry import Registry


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("registry")
    with registry.run("127.0.0.1", folder, report=lambda *_: None) as served:
        yield served
