"""LoRA adapters in a real vLLM: loaded at the start, added and removed while it runs; a bad one harms nobody."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dev import waiting
from slipstream_runtime import contract
from tests.support import engines
from tests.support.adapters import write_adapter
from tests.support.engines import NAME, Engine
from tests.support.processes import HANG_SECONDS


class Adapted:
    """An engine and the list of adapters that it follows."""

    def __init__(self, engine: Engine, model: Path, listed: Path, uris: dict[str, str]) -> None:
        self.engine = engine
        self.model = model
        self.uris = uris
        self._listed = listed

    def write(self, *names: str) -> None:
        """As the kubelet does it: at once."""
        fresh = self._listed.with_suffix(".new")
        fresh.write_text(json.dumps({name: self.uris[name] for name in names}))
        fresh.replace(self._listed)

    def models(self) -> list[str]:
        answer = httpx.get(f"{self.engine.api}/v1/models", timeout=10).raise_for_status()
        return [entry["id"] for entry in answer.json()["data"]]

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.engine.get(contract.STATUS_PATH).json()["adapters"]
        return found

    def ask(self, model: str) -> httpx.Response:
        sent = {"model": model, "prompt": "one two three", "max_tokens": 16, "temperature": 0}
        return httpx.post(
            f"{self.engine.api}/v1/completions", json={**sent, "ignore_eos": True}, timeout=60
        )

    def text(self, model: str) -> str:
        text: str = self.ask(model).raise_for_status().json()["choices"][0]["text"]
        return text


def until(true: Callable[[], bool]) -> None:
    waiting.until(true, seconds=HANG_SECONDS, what="the adapters", interval=0.2)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adapted]:
    """A ready engine with one good adapter and three that can't be loaded."""
    folder = tmp_path_factory.mktemp("engine")
    model = tmp_path_factory.mktemp("model")
    engines.write_model(model)
    listed = folder / "adapters.json"
    uris = {
        "first": write_adapter(folder / "first", model=model, seed=1),
        "second": write_adapter(folder / "second", model=model, seed=2, rank=8),
        "other-base": write_adapter(folder / "other-base", model=model, seed=3, hidden=64),
        "wide": write_adapter(folder / "wide", model=model, seed=4, rank=1024),
        "missing": f"file://{folder / 'missing'}",
    }
    config = engines.config(
        f"file://{model}", adapters={"slots": 4, "file": str(listed)}, engineArgs={"seed": 7}
    )
    listed.write_text(
        json.dumps({name: uris[name] for name in ("first", "other-base", "wide", "missing")})
    )
    engine = Engine(folder, config)
    try:
        engine.until_ready()
        yield Adapted(engine, model, listed, uris)
    finally:
        engine.kill()


def test_it_is_ready_with_the_adapters_that_can_be_loaded(adapted: Adapted) -> None:
    assert adapted.models() == [NAME, "first"]
    status = adapted.status()
    assert [name for name, adapter in status.items() if adapter["loaded"]] == ["first"]
    folder = adapted.uris["missing"].removeprefix("file://")
    assert status["missing"]["reason"] == (
        f"file://{folder}: there is no folder {folder} in the container."
    )
    assert "has rank 1024, and this engine was started for 16" in status["wide"]["reason"]
    assert (
        "was trained for a different base model: its model.layers.0"
        in status["other-base"]["reason"]
    )
    assert adapted.engine.metrics()[contract.ADAPTER_LOADED] == 1


def test_an_adapter_answers_in_its_own_way(adapted: Adapted) -> None:
    base, first = adapted.text(NAME), adapted.text("first")
    assert base != first
    assert (adapted.text(NAME), adapted.text("first")) == (base, first)
    for name in ("missing", "wide", "other-base"):
        assert adapted.ask(name).status_code == 404


@pytest.mark.parametrize("path", ["/v1/load_lora_adapter", "/v1/unload_lora_adapter"])
def test_clients_cannot_change_adapters(adapted: Adapted, path: str) -> None:
    sent = {"lora_name": "second", "lora_path": adapted.uris["second"]}
    assert httpx.post(adapted.engine.api + path, json=sent).status_code == 404


def test_adapters_come_and_go_while_it_runs(adapted: Adapted) -> None:
    base, first = adapted.text(NAME), adapted.text("first")
    adapted.write("first", "second")
    until(lambda: adapted.models() == [NAME, "first", "second"])
    assert adapted.text("second") not in (base, first)
    assert set(adapted.status()) == {"first", "second"}
    assert adapted.engine.metrics()[contract.ADAPTER_LOADED] == 2
    adapted.write("second")
    until(lambda: adapted.models() == [NAME, "second"])
    assert adapted.ask("first").status_code == 404
    assert adapted.text(NAME) == base
    assert adapted.engine.get(contract.READY_PATH).status_code == 200


def test_another_uri_is_another_adapter(adapted: Adapted) -> None:
    adapted.write("second")
    until(lambda: adapted.models() == [NAME, "second"])
    before, uri = adapted.text("second"), adapted.uris["second"]
    copy = Path(uri.removeprefix("file://")).with_name("third")
    shutil.copytree(adapted.uris["first"].removeprefix("file://"), copy)
    adapted.uris["second"] = f"file://{copy}"
    adapted.write("second")
    until(lambda: adapted.status().get("second", {}).get("uri") == f"file://{copy}")
    assert adapted.text("second") != before


def test_an_adapter_that_was_trained_again_at_its_uri_is_loaded_by_its_new_revision(
    adapted: Adapted,
) -> None:
    adapted.write("second")
    until(lambda: adapted.models() == [NAME, "second"])
    uri = adapted.uris["second"]
    folder = Path(uri.removeprefix("file://"))
    adapted.uris["second"] = f"{uri}#1"
    adapted.write("second")
    until(lambda: adapted.status().get("second", {}).get("uri") == f"{uri}#1")
    before = adapted.text("second")  # its prefixes are cached
    write_adapter(folder, model=adapted.model, seed=99, rank=8)
    adapted.uris["second"] = f"{uri}#2"
    adapted.write("second")
    until(lambda: adapted.status().get("second", {}).get("uri") == f"{uri}#2")
    after = adapted.text("second")
    adapted.uris["fresh"] = write_adapter(
        folder.with_name("fresh"), model=adapted.model, seed=99, rank=8
    )
    adapted.write("second", "fresh")
    until(lambda: {*adapted.models()} == {NAME, "fresh", "second"})
    assert (after == before, after == adapted.text("fresh")) == (False, True)
