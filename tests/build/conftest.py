"""Parts of builds that tests share: a registry, the builder's environment, and vLLM.

Their libraries take many seconds to import, so all modules share one process of each.
"""

from collections.abc import Iterator

import pytest

from dev.cluster import registry
from dev.cluster.registry import Registry
from tests.support import builders
from tests.support.builders import Builder, Engine


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("registry")
    with registry.run("127.0.0.1", folder, report=lambda *_: None) as served:
        yield served


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    with builders.running(tmp_path_factory.mktemp("steps")) as found:
        yield found


@pytest.fixture(scope="session")
def vllm() -> Iterator[Engine]:
    pytest.importorskip("vllm")
    with builders.answering() as found:
        yield found
