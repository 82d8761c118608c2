"""`make bench-builds`: what each kind of build keeps of the answers of its source.

Each build runs stage by stage as a Job runs it. The real vLLM then answers the held-out questions with its artifact.
Measured parts and unfinished builds are kept in `build/builds`, so that a run that was ended goes on.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from benchmarks import report
from benchmarks.builds import bars, lab
from dev import paths
from dev.errors import DevError
from dev.models import minilm, served

FOLDER: Final = Path(__file__).parent
RECORD: Final = paths.REPOSITORY / "build" / "builds" / "results.json"
"""Measured parts of a run that has not measured everything yet."""
HOME: Final = RECORD.with_name("work")
"""Builds of such a run."""
HEALED_ITEMS: Final = {lab.SOURCE: 16_000, lab.EASY: 4_096}
HEALING: Final[Mapping[Path, Mapping[str, float]]] = {
    lab.SOURCE: {"epochs": 2, "rate": 2e-3},
    lab.EASY: {"epochs": 1, "rate": 1e-3, "batch": 8},
}
STUDENT_ITEMS: Final = 16_000
DISTILLING: Final[Mapping[str, float]] = {"epochs": 2, "rate": 2e-3}
DRAFTING: Final[Mapping[str, float]] = {"epochs": 5, "rate": 3e-4}
"""A present draft is continued, so its learning rate is small."""
LAYERS: Final = 2
"""Half of the source's."""
ACCEPTED_ITEMS: Final = 400
"""Questions for which accepted tokens of a draft are counted."""

MEANINGS: Final = bars.meanings(
    {
        "w8a8_kept": "share of the source's right answers that w8a8 (rtn) keeps, in vLLM",
        "w4a16_gptq_kl": "mean divergence of w4a16 by gptq from the source, per token of the answers",
        "w4a16_rtn_kl": "the same by rtn",
        "w4a16_gptq_kept": "share of right answers that w4a16 by gptq keeps, in vLLM",
        "w4a16_rtn_kept": "the same by rtn",
        "sparse_raw_kept": "share of right answers that 2of4 by sparsegpt keeps, in vLLM",
        "sparse_healed_kept": "the same after healing",
        "sparse_healed_right": "all right answers after healing over the source's, whichever they are",
        "sparse_easy_raw_kept": "share of right answers that 2of4 keeps of the easy source",
        "sparse_easy_healed_kept": "the same after healing",
        "student_kept": "share of right answers that a distilled student of half the layers keeps, in vLLM",
        "scratch_kept": "the same of a model of its size that is trained from nothing, with the same settings",
        "draft_tokens_per_step_before": "tokens per step of the target with the present draft, in vLLM",
        "draft_tokens_per_step_after": "the same after the draft was distilled from the target",
        "broken_kept": "right answers of 4 bits by rtn in every layer, without calibration, over the source's",
        "broken_size": "size of its weights over the source's",
        "broken_refused": "1 if quality refused that build and nothing was published",
        "ruined_kept": "right answers of the same with half of the weights zero, over the source's",
        "ruined_refused": "1 if quality refused that build, too",
        "onnx_difference": "greatest difference of the outputs of all-MiniLM-L6-v2 exported to ONNX from PyTorch's",
        "onnx_int8_difference": "the same in INT8, of the cosine similarity of its vectors from 1",
        "build_peak_memory_mb": "memory of the largest stage of all builds, MB",
        "resumed_after_kill": "1 if a build killed by SIGKILL went on, and gave the same files",
        "source_right": f"right answers of the source, of {len(lab.questions())}, in vLLM",
    }
)

NOTES: Final = f"""\
The source is the solver of `dev/models`, a trained model of 1.06 million parameters. Shares of right answers are
those of its own right answers to 1,000 held-out questions that a checkpoint gives, too, greedily and in bfloat16.
2of4 is also measured on the target of `dev/models`, which answers all of its 400 easier questions right.
Trainings use AdamW on one thread, in batches of 16, with a cosine schedule and seed 0.

- **Healing:** {HEALING[lab.SOURCE]["epochs"]:g} epochs of {HEALED_ITEMS[lab.SOURCE]:,} training questions, drawn by the
  generator of the source's own lessons, at a learning rate of {HEALING[lab.SOURCE]["rate"]:g}. The easy source gets
  {HEALING[lab.EASY]["epochs"]:g} epoch of {HEALED_ITEMS[lab.EASY]:,} at {HEALING[lab.EASY]["rate"]:g}, in batches of 8.
  It learns the source's logits and the right answers, while zeros stay zero.
- **Student and scratch:** {DISTILLING["epochs"]:g} epochs of {STUDENT_ITEMS:,} such questions at
  {DISTILLING["rate"]:g}, in the same order, with one seed each. The student starts from two layers of the source and
  learns its logits. Scratch starts from random weights and learns the right answers.
- **Draft:** the present draft goes on for {DRAFTING["epochs"]:g} epochs at {DRAFTING["rate"]:g}, on the source's
  own answers to the 4,000 questions of `puzzles-training.jsonl`. Its tokens per step count {ACCEPTED_ITEMS}
  held-out questions at 3 draft tokens a step.
- **Broken:** `maxRegression` is {lab.MAX_REGRESSION:.0%} of ExactMatch. Nothing is published unless the upper end of
  the loss's interval is below it. Builds leave embedding and output layer as they are.
"""


@dataclass
class Bench:
    """Figures of one part, and the folder of all builds."""

    home: Path
    figures: dict[str, float] = field(default_factory=dict)

    def build(self, name: str, *steps: Mapping[str, Any], **more: Any) -> lab.Outcome:
        """Run a build that must be published."""
        outcome = self._run(lab.Build(self.home, name, steps, **more))
        if outcome.rejected:
            raise DevError(f"{name}: {outcome.rejected}")
        return outcome

    def refused(self, name: str, *steps: Mapping[str, Any]) -> lab.Outcome:
        """Run a build that quality must refuse, and measure whether it did."""
        outcome = self._run(lab.Build(self.home, name, steps))
        sys.stderr.write(f"{name}: {outcome.rejected or 'published'}\n")
        metric = outcome.quality(len(steps) - 1)["metrics"][0]
        self.figures[f"{name}_kept"] = round(metric["candidate"] / metric["baseline"], 4)
        refused = outcome.rejected is not None and not outcome.folder.exists()
        self.figures[f"{name}_refused"] = float(refused)
        return outcome

    def _run(self, build: lab.Build) -> lab.Outcome:
        sys.stderr.write(f"{build.name}\n")
        outcome = build.run()
        peak = round(outcome.peak_memory / 1e6, 1)
        self.figures[_PEAK] = max(peak, self.figures.get(_PEAK, 0))
        return outcome

    def kept(self, folder: Path, source: Path = lab.SOURCE) -> float:
        """Return the share of the source's right answers that a checkpoint gives, too, in the real vLLM."""
        right = self._right(source, source)
        if source == lab.SOURCE:
            self.figures["source_right"] = len(right)
        return round(len(right & self._right(folder, source)) / len(right), 4)

    def right(self, folder: Path) -> float:
        """Return the number of right answers of a checkpoint, over the source's."""
        found = len(self._right(folder, lab.SOURCE))
        return round(found / len(self._right(lab.SOURCE, lab.SOURCE)), 4)

    def _right(self, folder: Path, source: Path) -> set[int]:
        """Return the numbers of the source's questions that vLLM answers right with this checkpoint."""
        weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        kept = self.home / f"right-{source.name}-{weights[:12]}.json"
        if not kept.exists():
            items = lab.questions(source)
            found = served.answers(
                (item["prompt"] for item in items), threads=1, model=str(folder), dtype="bfloat16"
            )
            pairs = zip(items, found, strict=True)
            right = [n for n, (item, answer) in enumerate(pairs) if answer == item["answer"]]
            _write(kept, right)
        return set(json.loads(kept.read_text()))


_PEAK: Final = "build_peak_memory_mb"


def int8(bench: Bench) -> None:
    """Build w8a8, which must pass its quality gate."""
    built = bench.build("w8a8", _quantize("w8a8", "rtn", calibration=None))
    bench.figures["w8a8_kept"] = bench.kept(built.folder)


def int4(bench: Bench) -> None:
    """Build w4a16 by both methods."""
    methods: dict[str, Any] = {"gptq": lab.calibration(lab.LESSONS), "rtn": None}
    folders = [
        bench.build(
            f"w4a16-{method}", _quantize("w4a16", method, calibration=data), evaluated=False
        ).folder
        for method, data in methods.items()
    ]
    for method, folder, divergence in zip(methods, folders, _divergences(folders), strict=True):
        bench.figures[f"w4a16_{method}_kl"] = round(divergence, 5)
        bench.figures[f"w4a16_{method}_kept"] = bench.kept(folder)


def broken(bench: Bench) -> None:
    """Build what quality must refuse: 4 bits of every layer, without calibration, and with half of the weights zero."""
    four = _quantize("w4a16", "rtn", calibration=None, ignore=[])
    zeros = {"sparsify": {"pattern": "unstructured", "method": "magnitude"}}
    refused = bench.refused("broken", four)
    source = sum(path.stat().st_size for path in lab.SOURCE.glob("*.safetensors"))
    bench.figures["broken_size"] = round(refused.weights / source, 4)
    bench.refused("ruined", zeros, four)


def sparse(bench: Bench) -> None:
    """Prune two of four weights of both sources, with and without healing."""
    for source, name, figure in (
        (lab.EASY, "sparse", "sparse_easy"),
        (lab.SOURCE, "sparse_solver", "sparse"),
    ):
        lessons = lab.lessons(bench.home, HEALED_ITEMS[source], source)
        raw = {"pattern": "2of4", "method": "sparsegpt", "calibration": lab.calibration(lessons)}
        healed = raw | {"heal": lab.training(lessons, **HEALING[source])}
        for kind, step in (("raw", raw), ("healed", healed)):
            built = bench.build(
                f"{name}-{kind}", {"sparsify": step}, source=source, evaluated=False
            )
            bench.figures[f"{figure}_{kind}_kept"] = bench.kept(built.folder, source)
    bench.figures["sparse_healed_right"] = bench.right(built.folder)


def student(bench: Bench) -> None:
    """Distill a student of half the layers, beside a model of its size that is trained from nothing."""
    training = lab.training(lab.lessons(bench.home, STUDENT_ITEMS), **DISTILLING)
    step = {"student": {"layers": LAYERS}, "training": training}
    built = bench.build("student", {"distill": step}, evaluated=False)
    bench.figures["student_kept"] = bench.kept(built.folder)
    bench.figures["scratch_kept"] = bench.kept(_trained(bench.home, training))


def _trained(home: Path, training: Mapping[str, Any]) -> Path:
    """Train a model from nothing, unless that has been done; return its folder."""
    name = hashlib.sha256(json.dumps([training, LAYERS]).encode()).hexdigest()[:12]
    whole, part = home / f"scratch-{name}", home / f"scratch-{name}.part"
    if not whole.exists():
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        order = {"training": training, "layers": LAYERS, "folder": str(part)}
        _in_builder("scratch", _write(home / f"scratch-{name}.json", order))
        part.rename(whole)
    return whole


def draft(bench: Bench) -> None:
    """Distill the draft, and measure its accepted tokens before and after."""
    step = {
        "student": lab.DRAFT.as_uri(),
        "training": lab.training(lab.LESSONS, **DRAFTING),
        "purpose": "Draft",
    }
    built = bench.build("draft", {"distill": step}, limit=None, items=ACCEPTED_ITEMS)
    found = built.quality()
    bench.figures["draft_tokens_per_step_before"] = found["baselineTokensPerStep"]
    bench.figures["draft_tokens_per_step_after"] = found["tokensPerStep"]


def onnx(bench: Bench) -> None:
    """Export a sentence encoder, as it is and in INT8. The step compares its outputs with PyTorch's."""
    for precision, fact, figure in (
        ("fp32", "outputDifference", "onnx_difference"),
        ("int8", "answerDifference", "onnx_int8_difference"),
    ):
        built = bench.build(
            f"onnx-{precision}",
            {"export": {"precision": precision}},
            source=minilm.SOURCE,
            evaluated=False,
        )
        bench.figures[figure] = built.stages["0-export"]["facts"][fact]


def killed(bench: Bench) -> None:
    """Kill a build in its training, continue it, and compare it with one that was not killed."""
    items = lab.training(lab.LESSONS, epochs=1, rate=2e-3, batch=4, samples=1200)
    step = {"distill": {"student": {"layers": LAYERS}, "training": items}}
    whole = bench.build("whole", step, evaluated=False)
    build = lab.Build(bench.home, "killed", [step], evaluated=False)
    killed_at = build.kill("0-distill", at=100)
    went_on = build.resume("0-distill") >= killed_at
    resumed = build.run()
    same = _weights(whole.folder) == _weights(resumed.folder)
    bench.figures["resumed_after_kill"] = float(went_on and same)


PARTS: Final[Mapping[str, Callable[[Bench], None]]] = {
    part.__name__: part for part in (int8, int4, broken, sparse, student, draft, onnx, killed)
}


def _quantize(scheme: str, method: str, **more: Any) -> dict[str, Any]:
    return {"quantize": {"scheme": scheme, "method": method, **more}}


def _divergences(folders: Iterable[Path]) -> list[float]:
    done = _in_builder("divergence", lab.SOURCE, *folders)
    found: list[float] = json.loads(done.splitlines()[-1])
    return found


def _in_builder(module: str, *arguments: Path) -> str:
    """Run a module of this benchmark in the builder's environment, and return what it prints."""
    return subprocess.run(
        [lab.builder(), "-m", f"benchmarks.builds.{module}", *map(str, arguments)],
        env=lab.environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def _weights(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def _write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def _record() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    return found


def _measured(part: str) -> dict[str, Any]:
    """Measure a part; return its figures with their time and the load of the machine."""
    bench, began, load = Bench(HOME), time.monotonic(), os.getloadavg()[0]
    PARTS[part](bench)
    return {
        "figures": bench.figures,
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "minutes": round((time.monotonic() - began) / 60, 1),
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
    }


def _figures(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of all measured parts."""
    found: dict[str, float] = {}
    for part in record.values():
        peak = max(part["figures"].get(_PEAK, 0), found.get(_PEAK, 0))
        found |= {**part["figures"], _PEAK: peak}
    return {name: found[name] for name in MEANINGS if name in found}


def _details(record: Mapping[str, Any]) -> str:
    rows = "".join(
        f"| {name} | {part['date']} | {part['minutes']:g} | {part['load'][0]:g} to {part['load'][1]:g} |\n"
        for name, part in record.items()
    )
    return f"{NOTES}\n| part | measured until | minutes | load average before and after |\n|---|---|---:|---:|\n{rows}"


@click.command()
@click.option("--part", "parts", multiple=True, type=click.Choice(list(PARTS)))
def main(*, parts: tuple[str, ...]) -> None:
    """Measure the given parts, or those that are not measured yet. Once all are, publish their figures.

    The exit status is 1 if a target is missed.
    """
    record = _record()
    if record.keys() == PARTS.keys() and not parts:
        RECORD.unlink()
        record = {}
    for part in parts or [part for part in PARTS if part not in record]:
        HOME.mkdir(parents=True, exist_ok=True)
        measured = _measured(part)
        record = _record() | {part: measured}
        _write(RECORD, record)
    record = {name: record[name] for name in PARTS if name in record}
    figures = _figures(record)
    missed = bars.missed(figures)
    complete = record.keys() == PARTS.keys()
    report.publish(
        folder=FOLDER,
        title="Answers that builds keep",
        command="make bench-builds",
        figures={name: figures.get(name) for name in MEANINGS},
        meanings=MEANINGS,
        details="".join(f"**Missed:** {sentence}\n\n" for sentence in missed) + _details(record),
        kept=complete,
    )
    if complete:
        shutil.rmtree(HOME, ignore_errors=True)
    if missed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
