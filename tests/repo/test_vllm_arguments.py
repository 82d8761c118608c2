"""The list that spec.engineArgs is checked against is that of the vLLM that the images have."""

from dev import vllm_arguments


def test_the_committed_list_is_of_the_locked_vllm() -> None:
    assert vllm_arguments.main(["--check", "version"]) == 0


def test_all_locks_have_the_same_vllm() -> None:
    assert len(vllm_arguments.locked()) == 1
