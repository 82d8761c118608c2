"""Variables of an image are those of its target and of the stages under it, as Docker resolves them."""

from pathlib import Path
from typing import Final

from tests.gpu import image

DOCKERFILE: Final = """\
FROM python:3.11-slim AS base
ENV LD_LIBRARY_PATH=/usr/local/nvidia/lib:/usr/local/nvidia/lib64 \\
    CUDA_HOME=/opt/slipstream/venv/cuda
FROM base AS packages
ENV VIRTUAL_ENV=/nowhere
FROM base AS runtime
COPY --from=packages /opt /opt
ENV PATH=/opt/slipstream/venv/bin:$PATH WORDS="one two"
"""


def test_a_target_has_its_own_variables_and_those_that_it_is_built_on() -> None:
    assert image.declared(DOCKERFILE) == {
        "LD_LIBRARY_PATH": "/usr/local/nvidia/lib:/usr/local/nvidia/lib64",
        "CUDA_HOME": "/opt/slipstream/venv/cuda",
        "PATH": "/opt/slipstream/venv/bin:/usr/local/bin:/usr/bin:/bin",
        "WORDS": "one two",
    }


def test_the_driver_is_found_only_where_the_image_looks_for_it() -> None:
    there = image.placed(image.declared(DOCKERFILE), environment=Path("/env"), driver=Path("/d"))
    assert there["LD_LIBRARY_PATH"] == "/usr/local/nvidia/lib:/d"
    assert there["CUDA_HOME"] == "/env/cuda"
    elsewhere = image.placed({"LD_LIBRARY_PATH": "/lib"}, environment=Path("/e"), driver=Path("/d"))
    assert "/d" not in elsewhere["LD_LIBRARY_PATH"]
