"""Figures of a draft from the engine's counters."""

from slipstream_runtime.build.acceptance import Acceptance, cache_bytes

CONFIG = {
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "vocab_size": 1000,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}


def test_a_step_gives_tokens_of_answers_and_not_what_is_accepted_after_their_end() -> None:
    counters = Acceptance(steps=100, drafted=300, accepted=150, tokens=240)
    assert (counters.acceptance, counters.tokens_per_step) == (0.5, 2.4)


def test_the_cache_holds_all_sequences_of_both_models() -> None:
    one_token = 2 * 4 * 32 * 8 * 128
    assert cache_bytes(CONFIG, 4096) == 2 * one_token * 4096 * 16
    assert cache_bytes(CONFIG | {"num_hidden_layers": 1}, 10) == 64 << 20
