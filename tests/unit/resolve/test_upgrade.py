"""Another version of vLLM: its image, its own arguments, and what it changes for a service."""

import dataclasses
from typing import Any

import pytest

from slipstream_operator.api.inferenceservice import InferenceServiceSpec
from slipstream_operator.core import upgrade, vllm_versions
from slipstream_operator.core.upgrade import Effect
from slipstream_operator.core.vllm_versions import KNOWN, PINNED
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from tests.support import given

OLDER = KNOWN["0.31.0"]
IMAGES = {
    **given.profile().spec["images"],
    "versions": [{"version": "0.31.0", "vllm": "old/vllm:0.31"}],
}


def spec(**fields: Any) -> InferenceServiceSpec:
    return InferenceServiceSpec.model_validate({"model": given.MODEL, **fields})


def resolved(version: str | None, **fields: Any) -> Any:
    engine = {"engine": {"version": version}} if version else {}
    profile = given.profile(images=IMAGES)
    return given.resolved({"model": given.MODEL, **engine, **fields}, profiles=[profile])


def test_a_version_brings_its_image_and_a_revision_of_its_own() -> None:
    older, newer = resolved("0.31.0"), resolved(None)
    assert older.revisioned.image == "old/vllm:0.31"
    assert newer.revisioned.image == IMAGES["vllm"]
    assert dataclasses.replace(older.revisioned, image=newer.revisioned.image) == newer.revisioned


def test_the_version_of_the_release_needs_no_image_of_its_own() -> None:
    assert resolved(PINNED.name).revisioned == resolved(None).revisioned


def test_a_version_without_an_image_is_refused_with_the_field_to_set() -> None:
    with pytest.raises(PermanentError) as caught:
        given.resolved({"model": given.MODEL, "engine": {"version": "0.31.0"}})
    assert caught.value.reason == Reason.IMAGE_MISSING
    assert "Set vllm of that version in images.versions" in caught.value.message


def test_a_version_that_the_operator_does_not_know_is_refused_with_those_that_it_knows() -> None:
    profile = given.profile(images={**IMAGES, "versions": [{"version": "0.9.0", "vllm": "v"}]})
    with pytest.raises(PermanentError, match=r'"0\.9\.0" .* knows .* 0\.31\.0 and 0\.32\.0'):
        given.resolved({"model": given.MODEL, "engine": {"version": "0.9.0"}}, profiles=[profile])


def test_arguments_are_checked_against_the_version_of_the_service() -> None:
    arguments = {"mamba-cache-mode": "all"}
    assert resolved("0.31.0", engineArgs=arguments).revisioned.config["engineArgs"] == arguments
    with pytest.raises(PermanentError, match=r'mamba-cache-mode: "all" is not supported'):
        resolved(None, engineArgs=arguments)


def test_the_pinned_version_is_the_newest_known_and_its_minor_before_is_known() -> None:
    assert list(vllm_versions.KNOWN) == ["0.31.0", "0.32.0"]
    assert list(vllm_versions.KNOWN)[-1] == PINNED.name


def test_an_upgrade_names_a_value_that_the_newer_version_dropped() -> None:
    found = upgrade.check(spec(engineArgs={"mamba-cache-mode": "all"}), OLDER, PINNED)
    assert [finding.effect for finding in found] == [Effect.REFUSED]
    assert found[0].message == (
        'spec.engineArgs.mamba-cache-mode: "all" is not supported. Use one of align, none.'
    )


def test_an_upgrade_names_arguments_parsers_and_backends_that_the_other_version_lacks() -> None:
    without = dataclasses.replace(
        PINNED,
        name="0.33.0",
        arguments={
            name: kind if name != "attention-backend" else ("choice", "FLASH_ATTN")
            for name, kind in PINNED.arguments.items()
            if name != "seed"
        },
        tool_parsers=("mistral",),
    )
    wanted = spec(
        model={**given.MODEL, "toolParser": "hermes"},
        attention={"backend": "FLASHINFER"},
        engineArgs={"seed": 1, "max-num-seqs": 8},
    )
    found = upgrade.check(wanted, PINNED, without)
    assert [finding.message.partition(":")[0] for finding in found] == [
        "spec.attention.backend",
        "spec.model.toolParser",
        "spec.engineArgs.seed",
    ]
    assert all("0.33.0" in finding.message for finding in found)


def test_an_upgrade_names_an_argument_of_another_kind() -> None:
    arguments = {**PINNED.arguments, "max-num-seqs": ("float",)}
    newer = dataclasses.replace(PINNED, name="0.33.0", arguments=arguments)
    found = upgrade.check(spec(engineArgs={"max-num-seqs": 8}), PINNED, newer)
    assert [finding.effect for finding in found] == [Effect.CHANGED]


def test_what_is_wrong_with_both_versions_is_not_an_effect_of_the_upgrade() -> None:
    wanted = spec(engineArgs={"no-such-argument": 1})
    assert upgrade.check(wanted, OLDER, PINNED) == []
