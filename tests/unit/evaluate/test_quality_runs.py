"""Runs of an evaluation: kept answers, verdicts, refusals, and what a report shows."""

import asyncio
import json
import weakref
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from slipstream_runtime.errors import EngineError, UnsuitableError
from slipstream_runtime.evaluate.quality import run
from slipstream_runtime.evaluate.quality.config import Model, QualityConfig
from slipstream_runtime.evaluate.quality.journal import Journal
from slipstream_runtime.evaluate.quality.observations import Kind, Observation, Request
from slipstream_runtime.evaluate.quality.report import Report
from slipstream_runtime.evaluate.quality.statistics import Verdict


class Pupil:
    """Model that knows the answers of a table, and breaks down after a number of requests."""

    def __init__(self, answers: Mapping[str, str], *, breaks_after: int | None = None) -> None:
        self._answers = answers
        self._left = breaks_after
        self.asked: list[Request] = []

    async def ask(self, requests: Sequence[Request]) -> AsyncIterator[tuple[Request, Observation]]:
        for request in requests:
            if self._left is not None:
                self._left -= 1
                if self._left < 0:
                    raise EngineError("http://pupil: connection refused")
            self.asked.append(request)
            yield request, self._answer(request)

    def _answer(self, request: Request) -> Observation:
        if self._answers is JUDGE:
            return Observation(text=_vote(request.messages[-1]["content"]))
        if request.kind is Kind.TEXT:
            return Observation(likelihoods=((-float(len(request.text)), len(request.text), False),))
        question = request.messages[-1]["content"]
        text = self._answers.get(question, "?")
        if text == "refuse":
            return Observation(error="400: too long")
        return Observation(text=text, tokens=tuple(text), output_tokens=1, prompt_tokens=2)


JUDGE: dict[str, str] = {}
"""Answers of a judge who knows the right ones."""


def _vote(request: str) -> str:
    question, _, rest = request.removeprefix("[Request]\nuser: ").partition("\n\n[Reference]")
    first, _, second = rest.partition("[Answer A]\n")[2].partition("\n\n[Answer B]\n")
    rights = first == RIGHT[question], second == RIGHT[question]
    return {(True, False): "A", (False, True): "B"}.get(rights, "T")


RIGHT = {f"q{number}": f"a{number}" for number in range(400)}


def config(folder: Path, **more: Any) -> QualityConfig:
    data = folder / "items.jsonl"
    lines = [
        {
            "prompt": prompt,
            "reference": answer,
            "slice": "even" if int(prompt[1:]) % 2 == 0 else "odd",
        }
        for prompt, answer in RIGHT.items()
    ]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    given: dict[str, Any] = {
        "candidate": {"url": "http://candidate", "model": "m"},
        "baseline": {"url": "http://baseline", "model": "m"},
        "dataset": {"uri": str(data)},
        "metrics": [{"name": "ExactMatch", "maxRegression": 0.01}],
        "output": str(folder / "out"),
    }
    return QualityConfig.model_validate(given | more)


def evaluate(config: QualityConfig, **pupils: Pupil) -> Report:
    by_url = {f"http://{name}": pupil for name, pupil in pupils.items()}
    return asyncio.run(
        run.run(
            config,
            cache=config.output / "cache",
            load=lambda model: by_url[model.url or ""],
            progress=lambda role, done, total: None,
        )
    )


def test_a_candidate_that_answers_as_well_passes(tmp_path: Path) -> None:
    report = evaluate(config(tmp_path), candidate=Pupil(RIGHT), baseline=Pupil(RIGHT))
    assert report.verdict is Verdict.PASSED


def test_a_candidate_that_answers_worse_fails_and_its_bad_slice_shows(tmp_path: Path) -> None:
    bad = RIGHT | {q: "wrong" for q in RIGHT if int(q[1:]) % 2 and int(q[1:]) < 200}
    report = evaluate(config(tmp_path), candidate=Pupil(bad), baseline=Pupil(RIGHT))
    assert report.verdict is Verdict.FAILED
    (metric,) = report.as_json()["metrics"]
    assert metric["slices"]["even"]["loss"]["estimate"] == 0
    assert metric["slices"]["odd"]["loss"]["estimate"] == 0.5


def test_too_few_items_are_inconclusive_with_the_number_that_would_do(tmp_path: Path) -> None:
    report = evaluate(config(tmp_path, maxItems=50), candidate=Pupil(RIGHT), baseline=Pupil(RIGHT))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.as_json()["metrics"][0]["itemsNeeded"] == 381
    assert "About 381 items would tell." in report.as_markdown()


def test_a_killed_run_goes_on_with_the_first_missing_answer(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="connection refused"):
        evaluate(config(tmp_path), candidate=Pupil(RIGHT, breaks_after=150), baseline=Pupil(RIGHT))
    candidate, baseline = Pupil(RIGHT), Pupil(RIGHT)
    report = evaluate(config(tmp_path), candidate=candidate, baseline=baseline)
    assert report.verdict is Verdict.PASSED
    assert len(candidate.asked) == 250
    assert baseline.asked == []


def test_answers_of_another_identity_are_not_used(tmp_path: Path) -> None:
    evaluate(config(tmp_path), candidate=Pupil(RIGHT), baseline=Pupil(RIGHT))
    other = {"url": "http://candidate", "model": "m", "identity": "revision-2"}
    candidate = Pupil(RIGHT)
    evaluate(config(tmp_path, candidate=other), candidate=candidate)
    assert len(candidate.asked) == 400


def test_an_answer_that_a_kill_tore_is_asked_again(tmp_path: Path) -> None:
    with Journal(tmp_path, identity={"a": 1}) as journal:
        journal.keep("one", Observation(text="1"))
        journal.keep("two", Observation(text="2", first={"x": -0.5}, tokens=("2",)))
    (file,) = tmp_path.glob("*.jsonl")
    assert file.stat().st_mode & 0o077 == 0
    file.write_bytes(file.read_bytes()[:-8])
    with Journal(tmp_path, identity={"a": 1}) as journal:
        assert journal.find("one") == Observation(text="1")
        assert journal.find("two") is None
        journal.keep("two", Observation(text="again"))
    with Journal(tmp_path, identity={"a": 1}) as journal:
        assert journal.find("two") == Observation(text="again")


def test_a_refused_item_counts_as_wrong_and_one_that_the_baseline_refused_is_left_out(
    tmp_path: Path,
) -> None:
    report = evaluate(
        config(tmp_path),
        candidate=Pupil(RIGHT | {"q1": "refuse"}),
        baseline=Pupil(RIGHT | {"q2": "refuse"}),
    )
    (metric,) = report.as_json()["metrics"]
    assert (metric["refused"], metric["leftOut"], metric["items"]) == (1, 1, 399)
    assert metric["loss"]["estimate"] == pytest.approx(1 / 399)


JUDGED = {
    "metrics": [{"name": "Judge", "maxRegression": 0.1}],
    "judge": {"url": "http://judge", "model": "j"},
}


def test_a_judge_is_asked_in_both_orders_where_the_answers_differ(tmp_path: Path) -> None:
    bad = RIGHT | dict.fromkeys(list(RIGHT)[:100], "wrong")
    judge = Pupil(JUDGE)
    report = evaluate(
        config(tmp_path, **JUDGED), candidate=Pupil(bad), baseline=Pupil(RIGHT), judge=judge
    )
    assert len(judge.asked) == 2 * (100 + 10)
    assert report.verdict is Verdict.FAILED
    (metric,) = report.as_json()["metrics"]
    assert metric["loss"]["estimate"] == 0.125


@pytest.mark.parametrize("reply", ["A", "B", "T", "?", "Both are good.", ""])
def test_a_judge_that_always_says_the_same_passes_no_candidate(tmp_path: Path, reply: str) -> None:
    class Stubborn(Pupil):
        def _answer(self, request: Request) -> Observation:
            return Observation(text=reply)

    with pytest.raises(UnsuitableError, match=r"judge: preferred .* in 0 of 10 tests"):
        evaluate(
            config(tmp_path, **JUDGED),
            candidate=Pupil({}),
            baseline=Pupil(RIGHT),
            judge=Stubborn({}),
        )


def test_a_baseline_that_gets_nothing_right_passes_no_candidate(tmp_path: Path) -> None:
    report = evaluate(config(tmp_path), candidate=Pupil({}), baseline=Pupil({}))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "the baseline scores 0.00 %, so no candidate could lose" in report.as_markdown()


def test_a_repeated_item_adds_no_confidence(tmp_path: Path) -> None:
    given = config(tmp_path)
    assert given.dataset.uri is not None
    data = Path(given.dataset.uri)
    data.write_text("\n".join(data.read_text().splitlines()[:20] * 100))
    report = evaluate(given, candidate=Pupil(RIGHT), baseline=Pupil(RIGHT))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.as_json()["dataset"] | {"name": "", "sha256": ""} == {
        "name": "",
        "sha256": "",
        "size": 2000,
        "items": 20,
        "duplicates": 1980,
    }


def test_messages_without_a_chat_template_are_refused_before_a_question_is_asked(
    tmp_path: Path,
) -> None:
    given = config(tmp_path, chat=False)
    assert given.dataset.uri is not None
    Path(given.dataset.uri).write_text(
        json.dumps({"messages": [{"role": "user", "content": "q1"}], "reference": "a1"})
    )
    candidate = Pupil(RIGHT)
    with pytest.raises(UnsuitableError, match=r"chat: item 1 of .* has messages"):
        evaluate(given, candidate=candidate, baseline=Pupil(RIGHT))
    assert candidate.asked == []


def test_a_refusal_is_asked_again_since_its_cause_may_be_gone(tmp_path: Path) -> None:
    refusing = RIGHT | {"q1": "refuse"}
    evaluate(config(tmp_path), candidate=Pupil(refusing), baseline=Pupil(RIGHT))
    candidate, baseline = Pupil(RIGHT), Pupil(RIGHT)
    report = evaluate(config(tmp_path), candidate=candidate, baseline=baseline)
    assert [request.messages[-1]["content"] for request in candidate.asked] == ["q1"]
    assert (report.verdict, baseline.asked) == (Verdict.PASSED, [])


def test_answers_of_a_folder_are_not_those_of_the_next_checkpoint_in_it(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").write_bytes(b"1")
    given = config(
        tmp_path, candidate={"path": str(model)}, baseline=None, metrics=[{"name": "F1"}]
    )

    def asked() -> int:
        pupil = Pupil(RIGHT)
        asyncio.run(run.run(given, cache=tmp_path, load=lambda _: pupil, progress=lambda *_: None))
        return len(pupil.asked)

    assert (asked(), asked()) == (400, 0)
    (model / "weights").write_bytes(b"22")
    assert asked() == 400


@pytest.mark.parametrize("text", ["line\u2028separator\x85", "half \ud83d", "nul \x00", "\r\n"])
def test_kept_answers_hold_every_character(tmp_path: Path, text: str) -> None:
    for number in range(2):
        with Journal(tmp_path, identity={}) as journal:
            assert (journal.find("a") is None) == (number == 0)
            journal.keep("a", Observation(text=text))
    with Journal(tmp_path, identity={}) as journal:
        assert journal.find("a") == Observation(text=text)


def test_a_report_shows_few_of_many_slices_and_the_beginning_of_long_texts(tmp_path: Path) -> None:
    given = config(tmp_path, examples=20)
    assert given.dataset.uri is not None
    lines = [
        {"prompt": f"{q} " + "x" * 50_000, "reference": a, "slice": f"s|{q}\n"}
        for q, a in RIGHT.items()
    ]
    Path(given.dataset.uri).write_text("".join(json.dumps(line) + "\n" for line in lines))
    known = {str(line["prompt"]): str(line["reference"]) for line in lines}
    report = evaluate(given, candidate=Pupil({}), baseline=Pupil(known))
    (metric,) = report.as_json()["metrics"]
    assert (len(metric["slices"]), metric["slicesLeftOut"]) == (100, 300)
    assert len(json.dumps(report.as_json())) < 300_000
    assert "300 slices with fewer items are not shown." in report.as_markdown()


def test_answers_show_only_behind_their_switch(tmp_path: Path) -> None:
    bad = RIGHT | {"q7": "SECRET"}
    hidden = evaluate(config(tmp_path), candidate=Pupil(bad), baseline=Pupil(RIGHT))
    assert "SECRET" not in json.dumps(hidden.as_json()) + hidden.as_markdown()
    shown = evaluate(config(tmp_path, examples=5), candidate=Pupil(bad), baseline=Pupil(RIGHT))
    (example,) = shown.as_json()["examples"]
    assert (example["item"], example["baseline"], example["candidate"]) == ("8", "a7", "SECRET")
    assert "SECRET" in shown.as_markdown()


def test_a_metric_that_applies_to_no_item_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnsuitableError, match=r"Choice applies to no item.*need choices"):
        evaluate(config(tmp_path, metrics=[{"name": "Choice"}]), candidate=Pupil(RIGHT))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"baseline": None}, "baseline: ExactMatch compares with a baseline"),
        ({"metrics": []}, "metrics: list them"),
        ({"metrics": [{"name": "Judge"}]}, "judge: name a model"),
        ({"metrics": [{"name": "F1"}, {"name": "F1"}]}, "listed twice"),
        ({"candidate": {"url": "http://x"}}, "name the model"),
        ({"candidate": {"path": "/m", "url": "http://x", "model": "m"}}, "either url"),
        ({"dataset": {"uri": "x", "fields": {"refrence": "y"}}}, '"refrence" is not a field'),
        ({"candidate": {"url": "http://me:secret@x", "model": "m"}}, "should match pattern"),
        ({"candidate": {"url": "http://x?key=secret", "model": "m"}}, "should match pattern"),
        ({"seed": -1}, "greater than or equal to 0"),
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused(
    tmp_path: Path, more: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        config(tmp_path, **more)


def test_the_baseline_is_freed_before_the_candidate_is_loaded(tmp_path: Path) -> None:
    loaded: list[weakref.ref[Pupil]] = []

    def load(model: Model) -> Pupil:
        assert [one() for one in loaded] == [None] * len(loaded)
        pupil = Pupil(RIGHT)
        loaded.append(weakref.ref(pupil))
        return pupil

    asyncio.run(run.run(config(tmp_path), cache=tmp_path, load=load, progress=lambda *_: None))
    assert len(loaded) == 2


def test_a_model_is_not_loaded_if_all_its_answers_are_kept(tmp_path: Path) -> None:
    evaluate(config(tmp_path), candidate=Pupil(RIGHT), baseline=Pupil(RIGHT))

    def unavailable(model: Model) -> Pupil:
        raise AssertionError(model)

    report = asyncio.run(
        run.run(config(tmp_path), cache=tmp_path, load=unavailable, progress=lambda *_: None)
    )
    assert report.verdict is Verdict.PASSED
