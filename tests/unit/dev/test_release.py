"""A release is built on a base that a digest names, and names its own images by digest."""

import pytest
from click.testing import CliRunner

from dev import containers, release, supply
from slipstream_operator.api.servingprofile import Images

DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    "base", [containers.BASE, f"python@{DIGEST}0", "python@sha256:abc", DIGEST, f"@{DIGEST}", ""]
)
def test_a_base_without_a_digest_is_refused(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "build", None)
    done = CliRunner().invoke(release.main, ["--base", base, "--tag", "1"])
    assert done.exit_code == 2
    assert "names no digest" in done.output


def test_overlay_and_profile_name_the_images_by_digest() -> None:
    digests = dict.fromkeys((release.OPERATOR, *release.FIELDS), DIGEST)
    found = release.files(digests, to="registry.example/org")
    (image,) = found["kustomization.yaml"]["images"]
    assert image == {
        "name": "ghcr.io/slipstream-dev/operator",
        "newName": "registry.example/org/operator",
        "digest": DIGEST,
    }
    images = Images.model_validate(found["profile.yaml"]["spec"]["images"])
    assert images.vllm == f"registry.example/org/runtime@{DIGEST}"
    assert images.router == f"registry.example/org/router@{DIGEST}"
    assert images.builder == f"registry.example/org/builder@{DIGEST}"
    assert images.onnx == f"registry.example/org/runtime-onnx-cuda@{DIGEST}"


def test_one_image_of_a_release_changes_no_other() -> None:
    found = release.files({"router": DIGEST}, to="r")
    assert found == {"profile.yaml": {"spec": {"images": {"router": f"r/router@{DIGEST}"}}}}


def test_every_image_of_a_release_has_a_bill_of_materials() -> None:
    locks = {
        "runtime-cuda" if one == "runtime" else one for one in (release.OPERATOR, *release.FIELDS)
    }
    assert locks <= {*supply.IMAGES}
