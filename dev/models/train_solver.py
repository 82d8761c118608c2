"""Train the solver, which goes on from the target, and its draft, which starts from nothing, on the same tokens.

Run `python -m dev.models.train_solver`, once `dev.models.train` has written the target.
"""

from pathlib import Path

import click
import torch
from transformers import LlamaForCausalLM

from dev.models import dataset, heldout, puzzles, tokenizer, train

HERE = Path(__file__).parent
SOLVER, DRAFT = "solver", "solver-draft"


@click.command()
@click.option("--steps", default=1200, show_default=True, help="Steps of each model.")
@click.option("--out", type=click.Path(path_type=Path), default=HERE, help="Folder to write to.")
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", default=1, show_default=True, help="Threads of PyTorch.")
@click.option("--model", "names", type=click.Choice([SOLVER, DRAFT]), multiple=True)
def main(*, steps: int, out: Path, seed: int, threads: int, names: tuple[str, ...]) -> None:
    """Write the questions, and train the given models, or both."""
    torch.set_num_threads(threads)
    heldout.write(out / "puzzles-heldout.jsonl", puzzles.held_out())
    heldout.write(out / "puzzles-training.jsonl", puzzles.training())
    tokens = tokenizer.load(HERE / "target")
    for name in names or (SOLVER, DRAFT):
        torch.manual_seed(seed)
        if name == SOLVER:
            model = LlamaForCausalLM.from_pretrained(HERE / "target", dtype=torch.float32)
        else:
            model = train.new_model(tokens, width=128, inner=384, layers=2, heads=4)
        stream = dataset.batches(tokens, seed=seed, draw=dataset.puzzle)
        train.fit(model, train.cross_entropy, batches=stream, steps=steps, rate=4e-3, name=name)
        train.save(model, tokens, out / name)


if __name__ == "__main__":
    main()
