"""Quantized and sparse checkpoints of the trained target, made by the builder and served by the real vLLM."""

import itertools
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from slipstream_runtime import build_support
from tests.support import builders
from tests.support.builders import Builder, Engine

TARGET = Path("dev/models/target").absolute()
DRAFT = Path("dev/models/draft").absolute()
ALL = 400
pytestmark = pytest.mark.timeout(900)
SERVED = ("w8a8", "fp8", "w4a16")
"""Schemes that vLLM serves on CPUs."""
SPARSE = {"pattern": "2of4", "method": "sparsegpt"}
REFUSED = sorted(
    scheme
    for scheme in build_support.SCHEMES
    if build_support.quantization_refusal(scheme, "rtn", "cpu")
)
POSSIBLE = sorted(
    (scheme, method)
    for scheme, method in itertools.product(build_support.SCHEMES, build_support.METHODS)
    if not build_support.quantization_refusal(scheme, method, "cpu")
)


@pytest.fixture(scope="module")
def folder(builder: Builder) -> Path:
    return builder.folder


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Path:
    return builders.questions(folder / "questions.jsonl", 4096)


@pytest.fixture(scope="module")
def calibration(dataset: Path) -> dict[str, Any]:
    return {"dataset": {"uri": str(dataset)}, "samples": 32, "maxLength": 256}


@pytest.fixture(scope="module")
def healing(calibration: dict[str, Any]) -> dict[str, Any]:
    """Step that prunes half of the weights and heals them."""
    heal = {**calibration, "samples": 2048, "batch": 8}
    return {"sparsify": {**SPARSE, "calibration": {**calibration, "samples": 64}, "heal": heal}}


@pytest.fixture(scope="module")
def made(builder: Builder, calibration: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Results of the quantized checkpoints, under their names."""
    found = {
        f"{scheme}-{method}": builder.run(
            {"quantize": {"scheme": scheme, "method": method, "calibration": calibration}},
            TARGET,
            f"{scheme}-{method}",
            force=scheme in REFUSED,
        )
        for scheme, method in [*POSSIBLE, *((scheme, "rtn") for scheme in REFUSED)]
    }
    kv = {"scheme": "w8a8", "kvCache": "fp8", "calibration": calibration}
    found["kv"] = builder.run({"quantize": kv}, TARGET, "kv")
    found["draft-w8a8"] = builder.run({"quantize": {"scheme": "w8a8"}}, DRAFT, "draft-w8a8")
    return found


@pytest.fixture(scope="module")
def pruned(builder: Builder, healing: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Results of the sparse checkpoints: as they are, healed, and then in int8."""
    raw = {name: value for name, value in healing["sparsify"].items() if name != "heal"}
    return {
        "sparse": builder.run({"sparsify": raw}, TARGET, "sparse"),
        "healed": builder.run(healing, TARGET, "healed"),
        "healed-w8a8": builder.run(
            {"quantize": {"scheme": "w8a8"}}, builder.folder / "healed", "healed-w8a8"
        ),
    }


@pytest.fixture(scope="module")
def served(
    made: dict[str, dict[str, Any]],
    pruned: dict[str, dict[str, Any]],
    folder: Path,
    vllm: Engine,
) -> dict[str, Any]:
    """Answers of vLLM for one checkpoint of each form."""
    names = [f"{scheme}-rtn" for scheme in (*SERVED, *REFUSED)]
    names += ["kv", "draft-w8a8", *pruned]
    return vllm.answers([folder / name for name in names])


def test_every_entry_of_the_table_that_works_on_cpus_makes_a_checkpoint(
    made: dict[str, dict[str, Any]],
) -> None:
    assert {scheme for scheme, _ in POSSIBLE} == set(SERVED)
    for scheme, method in POSSIBLE:
        facts = made[f"{scheme}-{method}"]["facts"]
        assert (facts["scheme"], facts["method"], facts["layers"]) == (scheme, method, 28)


def test_a_method_changes_nothing_of_the_form(
    made: dict[str, dict[str, Any]], folder: Path
) -> None:
    def form(name: str) -> Any:
        config = json.loads((folder / name / "config.json").read_text())["quantization_config"]
        for group in config["config_groups"].values():
            group["weights"].pop("actorder")
        return config

    assert made
    for scheme, method in POSSIBLE:
        assert form(f"{scheme}-{method}") == form(f"{scheme}-rtn")


def test_vllm_serves_these_schemes_with_the_answers_of_the_source(served: dict[str, Any]) -> None:
    for name in [*(f"{scheme}-rtn" for scheme in SERVED), "kv"]:
        assert served[name]["right"]["all"] >= 0.99 * ALL, served[name]
    # The draft shows that layers of 64 inputs are served in int8, too: in 16 bits it has 292 right answers.
    assert served["draft-w8a8"]["right"]["all"] >= 270
    assert served["kv"]["kvCache"] == "fp8"
    assert served["w8a8-rtn"]["kvCache"] == "auto"


def test_vllm_really_refuses_the_schemes_that_the_table_refuses_on_cpus(
    served: dict[str, Any],
) -> None:
    assert REFUSED == ["fp8-static", "mxfp4", "nvfp4"]
    for scheme in REFUSED:
        assert (
            "kernel" in served[f"{scheme}-rtn"]["error"]
            or "quant" in served[f"{scheme}-rtn"]["error"]
        )


def test_the_library_really_fails_where_the_table_refuses_awq(
    builder: Builder, calibration: dict[str, Any]
) -> None:
    step = {"quantize": {"scheme": "w4a16", "method": "awq", "calibration": calibration}}
    assert "AWQ needs a GPU" in builder.run(step, TARGET, "awq")["refused"]
    assert "NVIDIA" in builder.run(step, TARGET, "awq", force=True)["raised"]


def test_the_library_really_fails_where_groups_do_not_divide_a_layer(builder: Builder) -> None:
    step = {"quantize": {"scheme": "w4a16"}}
    assert "groups of 128 inputs do not divide" in builder.run(step, DRAFT, "odd")["refused"]
    assert "divisib" in builder.run(step, DRAFT, "odd", force=True)["raised"]


def test_the_library_really_fails_where_magnitude_should_make_2of4(
    builder: Builder,
) -> None:
    step = {"sparsify": {"pattern": "2of4", "method": "magnitude"}}
    assert "Use wanda or sparsegpt" in builder.run(step, TARGET, "magnitude")["refused"]
    found = builder.run(step, TARGET, "magnitude", force=True)
    assert "groups of 4 weights have less than 2 zeros" in found["error"]


def test_other_files_of_the_source_are_kept(made: dict[str, dict[str, Any]], folder: Path) -> None:
    assert made
    for name in ("w8a8-rtn", "w4a16-gptq", "healed"):
        for path in TARGET.iterdir():
            if path.name not in ("config.json", "model.safetensors"):
                assert (folder / name / path.name).read_bytes() == path.read_bytes()


def test_the_same_step_twice_writes_the_same_bytes(
    builder: Builder, made: dict[str, dict[str, Any]], calibration: dict[str, Any]
) -> None:
    step = {"quantize": {"scheme": "w4a16", "method": "gptq", "calibration": calibration}}
    assert "facts" in builder.run(step, TARGET, "again")
    assert content(builder.folder / "again") == content(builder.folder / "w4a16-gptq")


def test_progress_counts_layers_and_samples(
    made: dict[str, dict[str, Any]], pruned: dict[str, dict[str, Any]]
) -> None:
    ticks = made["w4a16-gptq"]["ticks"]
    assert ticks[0][:2] == [0, 2 * 4 * 32]
    assert ticks[-1][:2] == [2 * 4 * 32, 2 * 4 * 32]
    assert [tick[0] for tick in ticks] == sorted(tick[0] for tick in ticks)
    healed = pruned["healed"]["ticks"]
    assert [tick[0] for tick in healed] == sorted(tick[0] for tick in healed)
    assert healed[-1][:2] == [1000, 1000]
    assert healed[-1][2] is not None


def test_estimates_hold_for_the_tiny_models(
    made: dict[str, dict[str, Any]], pruned: dict[str, dict[str, Any]]
) -> None:
    # NB: the peak is the process's own, so it grows with every step that ran before.
    for name, found in (made | pruned).items():
        expected = found["estimate"]
        assert found["peak"] / 1.25 < expected["memory"] < 2 * found["peak"], name
        if name != "healed":
            assert expected["disk"] == pytest.approx(found["bytes"], rel=0.05), name


def test_2of4_is_counted_in_the_file_and_not_called_faster(
    pruned: dict[str, dict[str, Any]],
) -> None:
    facts = pruned["sparse"]["facts"]
    assert (facts["zeros"], facts["groupsOfFour"]) == (0.5, 4 * 53_248)
    assert facts["speedup"] == "none"
    assert "no kernel for 2of4" in facts["why"]
    assert pruned["sparse"]["bytes"] == (TARGET / "model.safetensors").stat().st_size


def test_healing_brings_the_lost_answers_back_and_int8_keeps_them_and_the_zeros(
    pruned: dict[str, dict[str, Any]], served: dict[str, Any]
) -> None:
    assert served["sparse"]["right"]["all"] < 0.96 * ALL
    assert served["healed"]["right"]["all"] >= 0.99 * ALL
    assert served["healed-w8a8"]["right"]["all"] >= 0.99 * ALL
    assert pruned["healed"]["facts"]["zeros"] == 0.5
    assert pruned["healed-w8a8"]["facts"]["sparse2of4"] is True


def test_methods_that_fill_zeros_are_refused_for_a_sparse_source(
    builder: Builder, pruned: dict[str, dict[str, Any]], calibration: dict[str, Any]
) -> None:
    assert "facts" in pruned["healed"]
    step = {"quantize": {"scheme": "w8a8", "method": "gptq", "calibration": calibration}}
    found = builder.run(step, builder.folder / "healed", "filled")
    assert "would fill its zeros. Use rtn or smoothquant" in found["error"]
    assert found["code"] == 2


def test_a_killed_fine_tune_goes_on_and_ends_with_the_same_bytes(
    builder: Builder, healing: dict[str, Any], folder: Path
) -> None:
    body = healing["sparsify"]
    small = {**body["calibration"], "samples": 32}
    heal = {**body["heal"], "samples": 160}
    step = {"sparsify": {**body, "calibration": small, "heal": heal}}
    whole = builder.run(step, TARGET, "whole")
    assert builder.run(step, TARGET, "killed", killAt=0.7) == {"signal": signal.SIGKILL}
    resumed = builder.run(step, TARGET, "killed")
    assert resumed["ticks"][0][0] > 600
    assert resumed["facts"] == whole["facts"]
    assert content(folder / "killed") == content(folder / "whole")


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
