"""Token usage, scraped loads, EndpointSlices and the queue."""

import itertools

import hypothesis
import pytest
from hypothesis import strategies

from slipstream_runtime.router.balancing import scrape
from slipstream_runtime.router.balancing.endpoints import Address
from slipstream_runtime.router.balancing.queue import RequestQueue, Waiter
from slipstream_runtime.router.balancing.retries import Retries
from slipstream_runtime.router.cluster import slices
from slipstream_runtime.router.messages.request import Request
from slipstream_runtime.router.messages.usage import EventFilter, Usage
from slipstream_runtime.web.refusal import Refusal


def test_retries_are_a_fifth_of_the_requests_once_what_was_saved_is_spent() -> None:
    retries = Retries()
    while retries.spend():
        pass
    for _ in range(100):
        retries.earn()
    assert sum(retries.spend() for _ in range(100)) in (19, 20)


def test_usage_is_read_from_the_end_of_an_answer() -> None:
    usage = Usage()
    usage.read(b'{"x": "\\"usage\\": 1", "usage": {"prompt_tokens": 7, "completion_tokens": 3}}')
    assert (usage.prompt, usage.output) == (7, 3)


def test_usage_of_embeddings_has_no_output() -> None:
    usage = Usage()
    usage.read(b'{"data": [], "usage":{"prompt_tokens":7,"total_tokens":7}}')
    assert (usage.prompt, usage.output) == (7, 0)


STREAM = (
    b'data: {"choices":[{"delta":{"content":"a"}}],"usage":null}\n\n'
    b'data: {"choices":[{"delta":{"content":"b \\"usage\\""}}],"usage":null}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}\n\n'
    b"data: [DONE]\n\n"
)


@hypothesis.given(strategies.lists(strategies.integers(0, len(STREAM)), max_size=6))
def test_usage_is_found_and_withheld_however_a_stream_is_cut(cuts: list[int]) -> None:
    usage, withheld, seen = Usage(), EventFilter(hide_usage=True), b""
    places = [0, *sorted(cuts), len(STREAM)]
    for start, end in itertools.pairwise(places):
        if piece := STREAM[start:end]:
            usage.add(piece)
            seen += withheld.complete(piece)
    usage.finish()
    events = STREAM.split(b"\n\n")
    assert seen == b"\n\n".join([*events[:2], *events[3:]])
    assert (usage.prompt, usage.output) == (7, 2)


def test_the_engines_count_wins_over_the_events() -> None:
    usage = Usage()
    usage.add(STREAM)
    usage.finish()
    usage.estimate()
    assert (usage.prompt, usage.output) == (7, 2)


def test_a_load_is_summed_over_an_engines_parts() -> None:
    text = (
        b"# TYPE vllm:num_requests_waiting gauge\n"
        b'vllm:num_requests_waiting{engine="0",model_name="m"} 2.0\n'
        b'vllm:num_requests_waiting{engine="1",model_name="m"} 3.0\n'
        b'vllm:num_requests_waiting_by_reason{reason="capacity"} 9\n'
        b'vllm:kv_cache_usage_perc{engine="0"} 0.25\nvllm:kv_cache_usage_perc{engine="1"} 0.5\n'
        b"slipstream_engine_max_sequences 2048.0\n"
    )
    load = scrape.parse(text, at=1.0)
    assert (load.waiting, load.kv, load.at, load.sequences) == (5.0, 0.5, 1.0, 2048)


@pytest.mark.parametrize(
    "text", [b"", b"vllm:num_requests_waiting NaN\n", b"vllm:num_requests_waiting x\n"]
)
def test_a_load_that_was_not_told_is_not_zero(text: bytes) -> None:
    assert scrape.parse(text, at=0).waiting is None
    assert scrape.parse(text, at=0).sequences is None


def sliced(*endpoints: dict[str, object], **fields: object) -> dict[str, object]:
    labels = {slices.SERVICE_LABEL: "chat-1", **slices.OURS}
    owner = {"kind": "Service", "name": "chat-1"}
    return {
        "metadata": {"name": "x", "labels": labels, "ownerReferences": [owner]},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 9000}],
        "endpoints": list(endpoints),
        **fields,
    }


def pod(name: str, host: str, **conditions: bool) -> dict[str, object]:
    return {"addresses": [host], "conditions": conditions, "targetRef": {"name": name}}


def test_ready_pods_count_and_draining_ones_do_not() -> None:
    found = slices.addresses(
        [
            sliced(
                pod("ready", "10.0.0.1", ready=True),
                pod("unknown", "10.0.0.2"),
                pod("starting", "10.0.0.3", ready=False),
                pod("draining", "10.0.0.4", ready=False, serving=True, terminating=True),
                pod("published early", "10.0.0.5", ready=True, terminating=True),
            )
        ]
    )
    wanted = {Address("ready", "10.0.0.1", 9000), Address("unknown", "10.0.0.2", 9000)}
    assert found == {"chat-1": wanted}


def test_a_pod_in_several_slices_counts_once_ipv4_first() -> None:
    six = sliced(pod("a", "fd00::1", ready=True), addressType="IPv6")
    four = sliced(pod("a", "10.0.0.1", ready=True))
    assert slices.addresses([six, four, four]) == {"chat-1": {Address("a", "10.0.0.1", 9000)}}


def test_an_ipv6_address_makes_a_valid_url() -> None:
    assert str(Address("a", "fd00::1", 9000).url("/v1/models")) == "http://[fd00::1]:9000/v1/models"


def test_slices_of_others_and_empty_ones_are_passed_over() -> None:
    bare = {"metadata": {"name": "x"}, "addressType": "IPv4", "endpoints": None}
    name = sliced(pod("a", "example.org", ready=True), addressType="FQDN")
    assert slices.addresses([bare, name, sliced()]) == {"chat-1": set()}


def test_all_other_routers_hold_shares_also_those_that_start_or_stop() -> None:
    own = {slices.SERVICE_LABEL: "slipstream-router", **slices.OURS}
    owner = {"kind": "Service", "name": "slipstream-router"}
    found = sliced(
        pod("own", "10.0.0.1", ready=True),
        pod("ready", "10.0.0.2", ready=True),
        pod("starting", "10.0.0.3", ready=False),
        pod("draining", "10.0.0.4", ready=False, serving=True, terminating=True),
        metadata={"name": "x", "labels": own, "ownerReferences": [owner]},
    )
    others = slices.routers([found, sliced(pod("engine", "10.0.0.9", ready=True))], own="own")
    assert {address.name for address in others} == {"ready", "starting", "draining"}
    assert {address.management_port for address in others} == {8001}


@pytest.mark.parametrize(
    "metadata",
    [
        {"ownerReferences": []},
        {"ownerReferences": [{"kind": "Service", "name": "other"}]},
        {"ownerReferences": [{"kind": "Pod", "name": "chat-1"}]},
        {"labels": {slices.SERVICE_LABEL: "chat-1"}},
        {"labels": {slices.SERVICE_LABEL: "chat-1", **dict([*slices.OURS.items()][:1])}},
        {"labels": {slices.SERVICE_LABEL: "chat-1", **dict([*slices.OURS.items()][1:])}},
    ],
    ids=["no owner", "another Service", "another kind", "no label", "by hand", "not ours"],
)
def test_a_slice_that_kubernetes_did_not_write_for_a_service_of_the_operator_is_ignored(
    metadata: dict[str, object],
) -> None:
    written = sliced(pod("a", "10.0.0.1", ready=True))
    known = written["metadata"]
    assert isinstance(known, dict)
    assert slices.addresses([{**written, "metadata": {**known, **metadata}}]) == {}


def waiter(size: int = 1, priority: int = 0) -> Waiter:
    request = Request("/v1/completions", b"x" * size, {}, "m", stream=False, priority=priority)
    return Waiter(request, tried=set())


async def test_a_line_is_in_order_of_priority_then_arrival() -> None:
    queue = RequestQueue()
    queue.max_requests, queue.max_bytes = 9, 99
    waiters = [waiter(priority=priority) for priority in (0, 5, 0, 5, -1)]
    for each in waiters:
        queue.add(each)
    assert [*queue] == [waiters[1], waiters[3], waiters[0], waiters[2], waiters[4]]
    queue.remove(waiters[0])
    queue.remove(waiters[0])
    assert len(queue) == 4


async def test_a_full_line_sheds_lower_priorities_and_refuses_equal_ones() -> None:
    queue = RequestQueue()
    queue.max_requests, queue.max_bytes = 2, 99
    low, middle = waiter(priority=-1), waiter()
    queue.add(low)
    queue.add(middle)
    with pytest.raises(Refusal) as refused:
        queue.add(waiter(priority=-1))
    assert refused.value.status == 429
    queue.add(waiter())
    assert isinstance(low.slot.exception(), Refusal)
    assert not middle.slot.done()


async def test_a_line_is_bounded_in_bytes_and_gives_them_back() -> None:
    queue = RequestQueue()
    queue.max_requests, queue.max_bytes = 9, 10
    first = waiter(8)
    queue.add(first)
    with pytest.raises(Refusal):
        queue.add(waiter(3))
    queue.remove(first)
    queue.add(waiter(3))
