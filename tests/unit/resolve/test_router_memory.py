"""Memory of a router: what its limits allow together never exceeds its memory limit."""

from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from slipstream_operator.api import units
from slipstream_operator.api.servingprofile import RouterSpec
from slipstream_operator.core import router_config, router_memory
from slipstream_operator.core.observed import ObservedRouter
from slipstream_operator.errors import PermanentError
from slipstream_operator.names import Reason
from slipstream_runtime.router.config import Bodies, Config
from tests.support import given

MIB = 2**20


def divided(**fields: Any) -> router_memory.RouterMemory:
    return router_memory.divide(RouterSpec.model_validate(fields), profile="default")


def limited(memory: str) -> dict[str, Any]:
    return {"resources": {"limits": {"memory": memory}}}


sizes = st.none() | st.integers(64, 4096).map(lambda size: f"{size}Mi")


@hypothesis.given(
    limit=st.none() | st.integers(1, 8192).map(lambda size: f"{size}Mi"),
    bodies=sizes,
    media=st.none() | st.integers(1, 64).map(lambda size: f"{size}Mi"),
)
def test_limits_never_allow_more_than_the_memory(
    limit: str | None, bodies: str | None, media: str | None
) -> None:
    fields = {"bodyMemory": bodies, "maxBodySize": media, **(limited(limit) if limit else {})}
    try:
        found = divided(**fields)
    except PermanentError as error:
        assert limit is not None
        assert f'"{limit}" can\'t work because' in error.message
        remedy = error.message.split("Use ")[1].split()[0]
        divided(**{**fields, **limited(remedy)})
        return
    total = router_memory.BASE_BYTES + 2 * found.bodies + found.caches
    assert total == found.limit
    assert found.caches >= 0
    assert limit is None or found.limit == units.quantity(limit)
    assert bodies is None or found.bodies == units.quantity(bodies)
    if found.size is not None:
        assert Bodies(size=found.size, memory=found.bodies).size <= found.bodies


def resolved(spec: dict[str, Any] | None = None, **profile: Any) -> Any:
    observed = ObservedRouter(
        namespace="team",
        namespace_labels={},
        profiles=(given.profile(**profile),),
        children=(),
        services=(given.parent(),),
        routes=(),
        pod_monitors=False,
    )
    entry = given.entry(given.observed(parent=given.parent(spec)))
    assert entry is not None
    found = router_config.resolve(observed, {given.NAME: entry}, {})
    assert found is not None
    return found


CACHED = {"model": given.MODEL, "cache": {"responses": {"ttl": "1m"}}}


def test_the_default_limit_grows_with_the_memory_for_bodies() -> None:
    assert resolved().resources["limits"]["memory"] == "512Mi"
    large = resolved(CACHED, router={"bodyMemory": "1Gi"})
    assert large.resources["limits"]["memory"] == "2208Mi"
    assert Config.model_validate_json(large.document).caches == 64 * MIB


def test_a_small_limit_leaves_less_for_bodies_and_responses() -> None:
    small = resolved(CACHED, router=limited("256Mi"))
    assert small.resources == {"limits": {"memory": "256Mi"}}
    config = Config.model_validate_json(small.document)
    assert (config.bodies.memory, config.bodies.size, config.caches) == (80 * MIB, 64 * MIB, 0)


def test_a_router_without_cached_responses_keeps_its_configuration() -> None:
    assert "caches" not in resolved().document
    assert '"caches": 167772160' in resolved(CACHED).document


@pytest.mark.parametrize(
    ("size", "texts"),
    [
        ("100Gi", ['spec.cache.responses.size: "100Gi"', "Use 160Mi or less", "102752Mi"]),
        ("161Mi", ["a router pod has 512Mi of memory", "513Mi"]),
    ],
)
def test_a_cache_that_no_router_can_hold_is_refused(size: str, texts: list[str]) -> None:
    with pytest.raises(PermanentError) as refused:
        given.resolved({**CACHED, "cache": {"responses": {"ttl": "1m", "size": size}}})
    assert refused.value.reason == Reason.LIMIT_EXCEEDED
    for text in texts:
        assert text in refused.value.message


def test_the_default_size_of_a_cache_fits_any_router() -> None:
    memory = divided(**limited("224Mi"))
    router_memory.check_cache("64Mi", memory, profile="default")


def test_a_profile_that_promises_more_than_its_routers_have_is_named() -> None:
    with pytest.raises(PermanentError) as refused:
        divided(**limited("512Mi"), bodyMemory="256Mi")
    message = refused.value.message
    assert message.startswith('router.resources.limits.memory of ServingProfile default: "512Mi"')
    assert "Use 608Mi or more or a smaller router.bodyMemory." in message
