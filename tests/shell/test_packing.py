"""Packed manifests."""

from typing import Any

from slipstream_operator.shell.packing import Packer


def _deployment(name: str) -> dict[str, Any]:
    variables = [{"name": f"VARIABLE_{number}", "value": str(number)} for number in range(100)]
    return {"kind": "Deployment", "metadata": {"name": name}, "spec": {"env": variables}}


def test_a_packed_manifest_unpacks_unchanged() -> None:
    packer = Packer()
    for manifest in ({}, _deployment("a"), _deployment("b"), {"é": None}):
        assert packer.pack(manifest, kind="x").manifest == manifest


def test_equal_manifests_are_equal_and_others_are_not() -> None:
    packer = Packer()
    first, again, other = (packer.pack(_deployment(name), kind="x") for name in ("a", "a", "b"))
    assert first == again
    assert first != other


def test_a_manifest_similar_to_the_first_of_its_kind_packs_small() -> None:
    packer = Packer()
    sizes = [len(packer.pack(_deployment(name), kind="x").content) for name in ("a", "b", "c")]
    assert max(sizes) < 100


def test_an_empty_manifest_is_no_reference_for_its_kind() -> None:
    packer = Packer()
    packer.pack({}, kind="x")
    packer.pack(_deployment("a"), kind="x")
    assert len(packer.pack(_deployment("b"), kind="x").content) < 100
