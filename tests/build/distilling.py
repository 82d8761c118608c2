"""Script of the builder's environment: distills small students in several ways, in one process."""

import hashlib
import json
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from dev.models import heldout, language
from slipstream_runtime.build import answers, distillation, facts, models, texts
from slipstream_runtime.build.recipe import Step
from slipstream_runtime.build.stages import step as stage
from slipstream_runtime.build.steps import distill
from slipstream_runtime.build.steps.step import Context, Tick
from slipstream_runtime.errors import UnsuitableError
from slipstream_runtime.evaluate.quality.items import Item

MODELS = Path(heldout.__file__).parent
TARGET = MODELS / "target"
ROOT = Path(sys.argv[1])
Report = Callable[[Tick], None]


def items(count: int) -> tuple[Item, ...]:
    rng = random.Random(5)
    drawn = [
        language.draw(rng, task=rng.choice(("fact", "lookup", "sum", "json")), held_out=False)
        for _ in range(count)
    ]
    return tuple(
        Item(name=str(number), prompt=one.prompt, references=(one.answer,))
        for number, one in enumerate(drawn)
    )


def step(student: Any, **fields: Any) -> Step:
    training = {
        "dataset": {"uri": "x"},
        "batch": 8,
        "maxLength": 128,
        "learningRate": 2e-3,
    } | fields.pop("training", {})
    return Step.model_validate({"distill": {"student": student, "training": training} | fields})


def train(
    name: str, wanted: Step, *, count: int, report: Report, source: Path = TARGET
) -> dict[str, Any]:
    context = Context(
        device="cpu",
        seed=3,
        items=lambda _: items(count),
        resolve=Path,
        training=ROOT / "training" / name,
        progress=report,
    )
    target = ROOT / name
    target.mkdir(exist_ok=True)
    made = dict(distill.run(wanted, source, target, context))
    stage.carry(source, facts.files(source), target)
    left = sorted(path.name for path in context.training.glob("checkpoint-*"))
    return {**made, "left": left, "config": models.config(target), **sizes(target)}


def sizes(target: Path) -> dict[str, Any]:
    weights = (target / "model.safetensors").read_bytes()
    files = sorted(path.name for path in target.iterdir())
    return {"sha256": hashlib.sha256(weights).hexdigest(), "files": files}


def divergence(folder: Path) -> float:
    """Divergence from the teacher on right answers to held-out questions."""
    asked = [
        Item(name=str(at), prompt=one["prompt"], references=(one["answer"],))
        for at, one in enumerate(heldout.read()[::10])
    ]
    tokens = texts.tokenize(models.tokenizer(TARGET), asked, max_length=256)
    teacher, ours = models.load(TARGET, dtype="float32"), models.load(folder, dtype="float32")
    total = count = 0.0
    with torch.inference_mode():
        for one in tokens:
            ids = torch.tensor([one.ids])
            wanted, got = (m(ids).logits[0, one.answer - 1 : -1] for m in (teacher, ours))
            wanted, got = wanted.log_softmax(-1), got.log_softmax(-1)
            total += float((wanted.exp() * (wanted - got)).sum())
            count += len(wanted)
    return total / count


def ignore(tick: Tick) -> None:
    pass


def killed_and_resumed() -> dict[str, Any]:
    """Train in a process that dies by SIGKILL in the middle, and then go on with its checkpoints."""
    wanted = step({"layers": 2})
    child = os.fork()
    if child == 0:
        train("resumed", wanted, count=96, report=die_after(8))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    ticks: list[Tick] = []
    facts = train("resumed", wanted, count=96, report=ticks.append)
    return {**facts, "signal": os.WTERMSIG(status), "firstStep": ticks[0].done}


def die_after(steps: int) -> Report:
    def report(tick: Tick) -> None:
        if tick.done == steps:
            os.kill(os.getpid(), signal.SIGKILL)

    return report


def killed_while_answering() -> dict[str, Any]:
    """Let the teacher answer in a process that dies by SIGKILL after the second batch."""
    wanted = step({"layers": 2}, loss="sequence")
    child = os.fork()
    if child == 0:
        train("answered", wanted, count=64, report=die_after(2 * answers.BATCH))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    torn = ROOT / "training" / "answered" / "answers.jsonl"
    with torn.open("a") as file:
        file.write("[[1, 2")
    ticks: list[Tick] = []
    facts = train("answered", wanted, count=64, report=ticks.append)
    return {**facts, "signal": os.WTERMSIG(status), "firstAnswer": ticks[0].done}


def grouped() -> Path:
    """Write an untrained teacher with tied embeddings whose query heads share key and value heads."""
    torch.manual_seed(0)
    folder = ROOT / "grouped"
    config = transformers.Qwen3Config(
        vocab_size=806,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=32,
        tie_word_embeddings=True,
        eos_token_id=1,
        pad_token_id=0,
    )
    transformers.Qwen3ForCausalLM(config).save_pretrained(folder)
    stage.carry(TARGET, facts.files(TARGET), folder)
    return folder


def foreign() -> str:
    """Return the refusal of a student that reads other tokens."""
    folder = ROOT / "foreign"
    models.load(TARGET).save_pretrained(folder)
    stage.carry(TARGET, facts.files(TARGET), folder)
    path = folder / "tokenizer.json"
    tokens = json.loads(path.read_text())
    tokens["model"]["vocab"].pop(max(tokens["model"]["vocab"], key=len))
    tokens["model"]["merges"] = tokens["model"]["merges"][:10]
    path.write_text(json.dumps(tokens))
    try:
        distillation.check_vocabulary(folder, TARGET)
    except UnsuitableError as error:
        return error.reason
    return ""


def too_short() -> str:
    """Return the refusal of a length that only questions fill."""
    try:
        train(
            "short",
            step({"layers": 2}, loss="sequence", training={"maxLength": 6}),
            count=4,
            report=ignore,
        )
    except UnsuitableError as error:
        return error.reason
    return ""


def main() -> None:
    ticks: list[Tick] = []
    results: dict[str, Any] = {
        "whole": train("whole", step({"layers": 2}), count=96, report=ticks.append),
        "resumed": killed_and_resumed(),
        "answered": killed_while_answering(),
        "narrow": train(
            "narrow", step({"layers": 2, "hidden": 64}), count=8, report=ignore, source=grouped()
        ),
        "onPolicy": train(
            "onPolicy", step({"layers": 3}, loss="reverse-kl"), count=24, report=ignore
        ),
        "foreign": foreign(),
        "tooShort": too_short(),
    }
    results["ticks"] = [[tick.done, tick.total, tick.loss] for tick in ticks]
    results["divergence"] = {
        "untrained": divergence(untrained()),
        "whole": divergence(ROOT / "whole"),
    }
    (ROOT / "results.json").write_text(json.dumps(results))


def untrained() -> Path:
    """Write the student as it is before its training."""
    context = Context("cpu", 0, lambda _: (), Path, ROOT, ignore)
    wanted = step({"layers": 2}).distill
    assert wanted is not None
    student, _ = distillation.student(wanted.student, TARGET, context)
    student.save_pretrained(ROOT / "untrained")
    return ROOT / "untrained"


if __name__ == "__main__":
    main()
