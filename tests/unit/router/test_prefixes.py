"""Prefix index: equal prefixes match, different tenants never do, and its size is bounded."""

import itertools
import random

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream_runtime.router.balancing import prefixes

MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant"]), "content": st.text(max_size=300)}
)
CHAINS = st.lists(st.lists(st.integers(1, 12), max_size=80, unique=True), max_size=12)


def chat(*contents: str, **fields: object) -> dict[str, object]:
    messages = [{"role": "user", "content": content} for content in contents]
    return {"model": "m", "messages": messages, **fields}


def of(body: dict[str, object], *, model: str = "m", tenant: str = "t") -> tuple[int, ...]:
    return prefixes.blocks(body, model=model, tenant=tenant)


@given(st.lists(MESSAGE, min_size=1, max_size=5), st.lists(MESSAGE, max_size=3))
def test_a_longer_conversation_starts_with_the_blocks_of_the_shorter(
    said: list[dict[str, str]], more: list[dict[str, str]]
) -> None:
    short, long = of({"messages": said}), of({"messages": said + more})
    # The last block may hold the end of the list, which a longer conversation has not.
    assert long[: len(short) - 1] == short[:-1] if short else True


@given(st.text(max_size=9000), st.text(max_size=9000))
def test_chains_agree_exactly_as_far_as_the_prompts_do(first: str, second: str) -> None:
    one, two = of({"prompt": first}), of({"prompt": second})
    texts = first.encode(), second.encode()
    shared = sum(1 for _ in itertools.takewhile(lambda p: p[0] == p[1], zip(*texts, strict=False)))
    agreed = sum(
        1 for _ in itertools.takewhile(lambda p: p[0] == p[1], zip(one, two, strict=False))
    )
    ends = [*range(64, 4097, 64), *range(4608, 9217, 512)]
    longest = min(len(one), len(two))
    assert agreed == sum(1 for end in ends[:longest] if end <= shared)


OWNERS = st.tuples(st.text(max_size=5), st.text(max_size=5), st.none() | st.text(max_size=5))


@given(OWNERS, OWNERS)
def test_models_adapters_tenants_and_salts_share_nothing(
    one: tuple[str, str, str | None], two: tuple[str, str, str | None]
) -> None:
    chains = [
        set(of(chat("x" * 600, cache_salt=salt), model=model, tenant=tenant))
        for model, tenant, salt in (one, two)
    ]
    if one == two:
        assert chains[0] == chains[1]
    else:
        assert not chains[0] & chains[1]


@pytest.mark.parametrize(
    "change",
    [
        {"tools": [{"type": "function", "function": {"name": "look_up"}}]},
        {"messages": [{"role": "system", "content": "Be brief."}, *chat("x" * 200)["messages"]]},
    ],
)
def test_tools_and_the_system_prompt_are_part_of_the_prompt(change: dict[str, object]) -> None:
    plain = chat("x" * 200)
    assert of(plain)[0] != of({**plain, **change})[0]


def test_what_only_steers_sampling_is_no_part_of_the_prompt() -> None:
    assert of(chat("x" * 200)) == of(chat("x" * 200, temperature=0.7, stream=True, max_tokens=9))


def test_the_order_of_keys_in_a_message_does_not_matter() -> None:
    message = {"role": "user", "content": "x" * 200}
    assert of({"messages": [message]}) == of({"messages": [dict(reversed(message.items()))]})


def test_token_ids_make_a_block_of_sixteen() -> None:
    tokens = list(range(100))
    assert len(of({"prompt": tokens})) == 6
    assert of({"prompt": [*tokens[:32], 7, *tokens[33:]]})[:3] != of({"prompt": tokens})[:3]
    assert of({"prompt": [*tokens[:32], 7, *tokens[33:]]})[:2] == of({"prompt": tokens})[:2]


def test_only_complete_blocks_count_and_at_most_256() -> None:
    assert of({"prompt": "x" * 63}) == ()
    assert len(of({"prompt": "x" * 4096})) == 64
    assert len(of({"prompt": "x" * (4096 + 511)})) == 64
    assert len(of({"prompt": "x" * 4608})) == 65
    assert len(of({"prompt": "x" * 1_000_000})) == 256


def test_a_body_without_a_prompt_has_no_blocks() -> None:
    assert of(orjson.loads(b'{"model": "m"}')) == ()


@given(CHAINS, st.integers(0, 30))
def test_an_endpoint_never_holds_more_than_its_capacity(
    chains: list[list[int]], capacity: int
) -> None:
    index = prefixes.Index(capacity=capacity)
    for chain in chains:
        index.insert("a", chain)
        assert index.size("a") <= capacity


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.lists(st.integers(1, 6), max_size=6, unique=True))
    )
)
def test_hits_are_the_consecutive_blocks_from_the_start(
    inserts: list[tuple[str, list[int]]],
) -> None:
    index = prefixes.Index()
    held: dict[str, set[int]] = {name: set() for name in "abc"}
    for name, chain in inserts:
        index.insert(name, chain)
        held[name] |= set(chain)
    asked = [3, 1, 4, 2]
    expected = {
        name: sum(1 for _ in itertools.takewhile(mine.__contains__, asked)) / len(asked)
        for name, mine in held.items()
    }
    assert index.hits(asked) == {name: share for name, share in expected.items() if share}


def test_a_large_block_counts_as_the_eight_small_ones_that_it_replaces() -> None:
    index = prefixes.Index()
    chain = of({"prompt": "x" * 8192})
    index.insert("a", chain[:64])
    assert index.hits(chain) == {"a": 0.5}
    assert prefixes.length(chain) == 128
    index.insert("a", chain)
    assert index.size("a") == 128


def test_the_least_recently_used_prompt_goes_first_and_its_end_before_its_start() -> None:
    index = prefixes.Index(capacity=6)
    index.insert("a", [1, 2, 3])
    index.insert("a", [4, 5, 6])
    index.insert("a", [1, 2, 3])
    index.insert("a", [7])
    assert index.hits([1, 2, 3]) == {"a": 1.0}
    assert index.hits([4, 5, 6]) == {"a": 2 / 3}


def test_shrinking_evicts_at_once() -> None:
    index = prefixes.Index()
    index.insert("a", [1, 2, 3, 4])
    index.resize("a", 2)
    assert index.hits([1, 2, 3, 4]) == {"a": 0.5}


def test_a_forgotten_endpoint_has_nothing_and_leaves_the_others_alone() -> None:
    index = prefixes.Index()
    index.insert("a", [1, 2])
    index.insert("b", [1, 2])
    index.forget("a")
    index.insert("c", [9])
    assert index.hits([1, 2]) == {"b": 1.0}
    index.forget("b")
    index.forget("b")
    assert index.hits([1, 2]) == {}


def test_nothing_is_left_of_endpoints_that_came_and_went() -> None:
    index = prefixes.Index(capacity=50)
    rng = random.Random(1)
    for number in range(200):
        index.insert(f"pod-{number}", [rng.randrange(1000) for _ in range(80)])
        index.forget(f"pod-{number}")
    assert index == prefixes.Index(capacity=50)
