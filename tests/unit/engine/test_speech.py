"""Speech needs libraries that an image may lack: a model that also chats serves its chats then."""

import pytest

from slipstream_runtime.engine import speech
from slipstream_runtime.errors import UnsuitableError


def test_an_image_that_decodes_audio_serves_speech() -> None:
    tasks = {"generate", "transcription"}
    assert speech.servable(tasks, decodes=True) == tasks


def test_a_model_that_also_chats_serves_its_chats_without_audio_libraries() -> None:
    found = speech.servable({"generate", "transcription", "realtime"}, decodes=False)
    assert found == {"generate"}


def test_a_model_of_speech_alone_is_refused_with_a_remedy() -> None:
    with pytest.raises(UnsuitableError, match=r"spec\.template\.image to an image with vllm"):
        speech.servable({"transcription"}, decodes=False)


@pytest.mark.parametrize("tasks", [{"generate"}, {"embed"}, set()])
def test_other_tasks_need_no_audio_libraries(tasks: set[str]) -> None:
    assert speech.servable(tasks, decodes=False) == tasks
