"""`make bench-builds`: what each kind of build keeps of the answers of its source.

Each build runs stage by stage as a Job runs it. The real vLLM then answers the held-out questions with its artifact.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from benchmarks import report
from benchmarks.builds import lab, scratch
from dev import paths
from dev.errors import DevError
from dev.models import served

FOLDER: Final = Path(__file__).parent
RECORD: Final = paths.REPOSITORY / "build" / "builds" / "results.json"
"""Figures of a run that has not measured everything yet."""
EPOCHS: Final = 5
HEALING_EPOCHS: Final = 3
LAYERS: Final = 2
"""Half of the source's."""

MEANINGS: Final = {
    "w8a8_kept": "share of the source's right answers that w8a8 (rtn) keeps, in vLLM; target 0.99",
    "w4a16_gptq_kl": "mean divergence of w4a16 by gptq from the source, per token of the answers",
    "w4a16_rtn_kl": "the same by rtn; target: more than by gptq",
    "w4a16_gptq_kept": "share of right answers that w4a16 by gptq keeps, in vLLM",
    "w4a16_rtn_kept": "the same by rtn",
    "sparse_raw_kept": "share of right answers that 2of4 by sparsegpt keeps, in vLLM",
    "sparse_healed_kept": "the same after healing; target 0.99",
    "student_kept": "share of right answers that a distilled student of half the layers keeps, in vLLM",
    "scratch_kept": "the same of a model of its size, trained from nothing on the same questions as often",
    "draft_tokens_per_step_before": "tokens per step of the target with the draft trained from nothing",
    "draft_tokens_per_step_after": "the same after its distillation; target: more than before",
    "broken_kept": "right answers of half the weights in 4 bits, without calibration, over the source's",
    "broken_refused": "1 if quality refused that build; target 1",
    "build_peak_memory_mb": "memory of the largest stage of all builds, MB",
    "resumed_after_kill": "1 if a build killed by SIGKILL went on, and gave the same files; target 1",
    "source_right": f"right answers of the source, of {len(lab.questions())}, in vLLM",
    "load_average": "load average of the machine in the minute before",
}


@dataclass
class Bench:
    """Figures so far, and the folder of all builds."""

    home: Path
    figures: dict[str, float] = field(default_factory=dict)

    def build(self, name: str, *steps: Mapping[str, Any], **more: Any) -> lab.Outcome:
        """Run a build that must be published."""
        outcome = self._run(lab.Build(self.home, name, steps, **more))
        if outcome.rejected:
            raise DevError(f"{name}: {outcome.rejected}")
        return outcome

    def broken(self, name: str, *steps: Mapping[str, Any]) -> lab.Outcome:
        """Run a build that quality may refuse."""
        return self._run(lab.Build(self.home, name, steps))

    def _run(self, build: lab.Build) -> lab.Outcome:
        sys.stderr.write(f"{build.name}\n")
        outcome = build.run()
        peak = round(outcome.peak_memory / 1e6, 1)
        self.figures["build_peak_memory_mb"] = max(
            peak, self.figures.get("build_peak_memory_mb", 0)
        )
        return outcome

    def kept(self, folder: Path) -> float:
        """Return the share of the source's right answers that a checkpoint gives, too, in the real vLLM."""
        right = _right(lab.SOURCE)
        self.figures["source_right"] = len(right)
        return round(len(right & _right(folder)) / len(right), 4)


_RIGHT: Final[dict[Path, frozenset[int]]] = {}


def _right(folder: Path) -> frozenset[int]:
    """Return the numbers of the questions that vLLM answers right with this checkpoint."""
    if folder not in _RIGHT:
        items = lab.questions()
        found = served.answers(
            (item["prompt"] for item in items), threads=1, model=str(folder), dtype="bfloat16"
        )
        _RIGHT[folder] = frozenset(
            number
            for number, (item, answer) in enumerate(zip(items, found, strict=True))
            if answer == item["answer"]
        )
    return _RIGHT[folder]


def int8(bench: Bench) -> None:
    """Build w8a8, which must pass its quality gate."""
    built = bench.build("w8a8", _quantize("w8a8", "rtn", calibration=None))
    bench.figures["w8a8_kept"] = bench.kept(built.folder)


def int4(bench: Bench) -> None:
    """Build w4a16 by both methods."""
    methods: dict[str, Any] = {"gptq": lab.CALIBRATION, "rtn": None}
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
    """Build what quality must refuse: half of the weights, in 4 bits, without calibration.

    4 bits of everything alone lose less than 1 % of the answers, so they are no broken build.
    """
    zeros = {"pattern": "unstructured", "method": "magnitude"}
    four = _quantize("w4a16", "rtn", calibration=None, ignore=[])
    refused = bench.broken("broken", {"sparsify": zeros}, four)
    metric = refused.quality(1)["metrics"][0]
    bench.figures["broken_kept"] = round(metric["candidate"] / metric["baseline"], 4)
    published = refused.folder.exists()
    bench.figures["broken_refused"] = float(refused.rejected is not None and not published)


def sparse(bench: Bench) -> None:
    """Prune two of four weights, with and without healing."""
    raw = {"pattern": "2of4", "method": "sparsegpt", "calibration": lab.CALIBRATION}
    healed = raw | {"heal": lab.training(epochs=HEALING_EPOCHS)}
    for name, step in (("raw", raw), ("healed", healed)):
        built = bench.build(f"sparse-{name}", {"sparsify": step}, evaluated=False)
        bench.figures[f"sparse_{name}_kept"] = bench.kept(built.folder)


def student(bench: Bench) -> None:
    """Distill a student of half the layers, beside a model of its size that is trained from nothing."""
    step = {"student": {"layers": LAYERS}, "training": lab.training(epochs=EPOCHS)}
    built = bench.build("student", {"distill": step}, evaluated=False)
    bench.figures["student_kept"] = bench.kept(built.folder)
    trained = scratch.write(bench.home / "scratch", layers=LAYERS, epochs=EPOCHS)
    bench.figures["scratch_kept"] = bench.kept(trained)


def draft(bench: Bench) -> None:
    """Distill the draft, and measure its accepted tokens before and after."""
    step = {
        "student": lab.DRAFT.as_uri(),
        "training": lab.training(epochs=EPOCHS),
        "purpose": "Draft",
    }
    found = bench.build("draft", {"distill": step}, limit=None).quality()
    bench.figures["draft_tokens_per_step_before"] = found["baselineTokensPerStep"]
    bench.figures["draft_tokens_per_step_after"] = found["tokensPerStep"]


def killed(bench: Bench) -> None:
    """Kill a build in its training, continue it, and compare it with one that was not killed."""
    items = lab.training(epochs=1, batch=4) | {"samples": 1200}
    step = {"distill": {"student": {"layers": LAYERS}, "training": items}}
    whole = bench.build("whole", step, evaluated=False)
    build = lab.Build(bench.home, "killed", [step], evaluated=False)
    killed_at = build.kill("0-distill", at=100)
    went_on = build.resume("0-distill") >= killed_at
    resumed = build.run()
    same = _weights(whole.folder) == _weights(resumed.folder)
    bench.figures["resumed_after_kill"] = float(went_on and same)


PARTS: Final[Mapping[str, Callable[[Bench], None]]] = {
    part.__name__: part for part in (int8, int4, broken, sparse, student, draft, killed)
}


def _quantize(scheme: str, method: str, **more: Any) -> dict[str, Any]:
    return {"quantize": {"scheme": scheme, "method": method, **more}}


def _divergences(folders: Iterable[Path]) -> list[float]:
    command = [lab.builder(), "-m", "benchmarks.builds.divergence", str(lab.SOURCE)]
    done = subprocess.run(
        [*command, *map(str, folders)],
        env=lab.environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _weights(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


@click.command()
@click.option("--part", "parts", multiple=True, type=click.Choice(list(PARTS)), default=PARTS)
def main(*, parts: tuple[str, ...]) -> None:
    """Run the given parts, or all. Once all are measured, publish their figures."""
    figures = json.loads(RECORD.read_text()) if RECORD.exists() and set(parts) != set(PARTS) else {}
    figures["load_average"] = round(os.getloadavg()[0], 1)
    with tempfile.TemporaryDirectory() as home:
        bench = Bench(Path(home), figures)
        for part in parts:
            PARTS[part](bench)
            RECORD.parent.mkdir(parents=True, exist_ok=True)
            RECORD.write_text(json.dumps(figures))
    report.publish(
        folder=FOLDER,
        title="Answers that builds keep",
        command="make bench-builds",
        figures={name: figures.get(name) for name in MEANINGS},
        meanings=MEANINGS,
        kept=all(name in figures for name in MEANINGS),
    )


if __name__ == "__main__":
    main()
