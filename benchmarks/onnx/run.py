"""`make bench-onnx`: all-MiniLM-L6-v2 on ONNX Runtime, as the engine runs it, beside the same model in PyTorch.

Both get the same texts in the same padded batches. PyTorch has one thread or all, whichever is faster for a batch: on a
busy machine its threads wait for each other. Of each batch the fastest round counts, and the engines take turns.
NB: even so, other work on the machine hurts PyTorch more, so the load is part of the result: measure on an idle one.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import transformers

from benchmarks import report
from dev.models import heldout, minilm
from slipstream_runtime.onnx import batching, export, exported, providers
from slipstream_runtime.onnx.pooling import Floats
from slipstream_runtime.onnx.session import Session
from slipstream_runtime.onnx.tokens import Texts, Tokens

FOLDER = Path(__file__).parent
TEXTS = 32
SIZES = (1, 8, 32)
ROUNDS = 10

MEANINGS = {
    "speedup_vs_torch": "time of PyTorch over time of ONNX Runtime, all batches below together",
    "max_abs_difference": "greatest difference of any number of the vectors, which have length one",
    **{
        f"speedup_batch_{size}": f"the same for batches of {size}, {TEXTS} texts in all"
        for size in SIZES
    },
    **{
        f"{name}_texts_per_second_batch_{size}": f"{title}, batches of {size}"
        for size in SIZES
        for name, title in (("onnx", "ONNX Runtime"), ("torch", "PyTorch"))
    },
    "tokens_per_text": "mean, special tokens included",
    "load_average": "load average of the machine in the minute before",
}

Run = Callable[[Sequence[Tokens]], Floats]


def main() -> None:
    """Export, measure, publish."""
    threads = os.cpu_count() or 1
    load = os.getloadavg()[0]
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        export.export(minilm.SOURCE, Path(folder))
        model = exported.load(Path(folder), uri=minilm.SOURCE.as_uri(), max_length=None)
        session = Session(
            model,
            uri=minilm.SOURCE.as_uri(),
            wanted=providers.wanted("cpu", tensorrt=False),
            threads=threads,
            limits=batching.BatchLimits(sequences=max(SIZES), tokens=max(SIZES) * model.max_length),
            cache=None,
        )
        prompts = [item["prompt"] for item in heldout.read()[:TEXTS]]
        sequences = Texts(model, uri=minilm.SOURCE.as_uri()).singles(prompts, cut=None)
        figures = _measure(session.run, _pytorch(), sequences, threads=threads)
    figures["load_average"] = round(load, 1)
    report.publish(
        folder=FOLDER,
        title="The ONNX Runtime engine compared with PyTorch",
        command="make bench-onnx",
        figures={name: figures[name] for name in MEANINGS},
        meanings=MEANINGS,
    )


def _pytorch() -> Run:
    network = transformers.AutoModel.from_pretrained(minilm.SOURCE, dtype=torch.float32).eval()

    def run(batch: Sequence[Tokens]) -> Floats:
        rows = [torch.tensor(tokens.ids) for tokens in batch]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([len(tokens) for tokens in batch])
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        with torch.inference_mode():
            states = network(input_ids=ids, attention_mask=mask).last_hidden_state
            pooled = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
            vectors: Floats = torch.nn.functional.normalize(pooled, dim=1).numpy()
        return vectors

    return run


def _measure(
    onnx: Run, pytorch: Run, sequences: Sequence[Tokens], *, threads: int
) -> dict[str, float | None]:
    figures: dict[str, float | None] = {
        "tokens_per_text": round(sum(map(len, sequences)) / len(sequences), 1)
    }
    difference, totals = 0.0, {"onnx": 0.0, "torch": 0.0}
    for size in SIZES:
        batches = [sequences[at : at + size] for at in range(0, len(sequences), size)]
        best = dict.fromkeys(totals, 0.0)
        for batch in batches:
            difference = max(difference, float(np.abs(onnx(batch) - pytorch(batch)).max()))
            for name, seconds in _fastest(onnx, pytorch, batch, threads=threads).items():
                best[name] += seconds
        for name, seconds in best.items():
            totals[name] += seconds
            figures[f"{name}_texts_per_second_batch_{size}"] = round(len(sequences) / seconds, 1)
        figures[f"speedup_batch_{size}"] = round(best["torch"] / best["onnx"], 2)
    figures["speedup_vs_torch"] = round(totals["torch"] / totals["onnx"], 2)
    figures["max_abs_difference"] = difference
    return figures


def _fastest(onnx: Run, pytorch: Run, batch: Sequence[Tokens], *, threads: int) -> dict[str, float]:
    """Seconds of the fastest round of each."""
    best = {"onnx": float("inf"), "torch": float("inf")}
    for _ in range(ROUNDS):
        best["onnx"] = min(best["onnx"], _seconds(onnx, batch))
        for count in {1, threads}:
            torch.set_num_threads(count)
            best["torch"] = min(best["torch"], _seconds(pytorch, batch))
    return best


def _seconds(run: Run, batch: Sequence[Tokens]) -> float:
    started = time.perf_counter()
    run(batch)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
