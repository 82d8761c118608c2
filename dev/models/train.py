"""Train the target and its draft from nothing: `python -m dev.models.train`."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path

import click
import torch
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch.nn import functional
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from dev.models import dataset, distill, heldout, language, muon, tokenizer

CONTEXT = 2048
HERE = Path(__file__).parent
Loss = Callable[[LlamaForCausalLM, dataset.Batch], torch.Tensor]


def new_model(
    tokens: PreTrainedTokenizerFast, *, width: int, inner: int, layers: int, heads: int
) -> LlamaForCausalLM:
    """A fresh Llama for this tokenizer, whose layers start by passing the embedding through.

    NB: vLLM's CPU attention needs heads of 32 or more.
    """
    end = tokens.eos_token_id
    config = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=CONTEXT,
        initializer_range=0.06,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=tokens.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    torch.nn.init.normal_(model.model.embed_tokens.weight, std=0.5)
    for layer in model.model.layers:
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
        torch.nn.init.zeros_(layer.mlp.down_proj.weight)
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=tokens.pad_token_id)
    return model


def cross_entropy(model: LlamaForCausalLM, batch: dataset.Batch) -> torch.Tensor:
    """Weighted next-token loss."""
    logits = model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits[:, :-1]
    each = functional.cross_entropy(logits.mT, batch.ids[:, 1:], reduction="none")
    return (each * batch.weight).sum() / batch.weight.sum()


def fit(
    model: LlamaForCausalLM,
    loss: Loss,
    *,
    batches: Iterable[dataset.Batch],
    steps: int,
    rate: float,
    name: str,
) -> None:
    """Train in place: Muon on the matrices of the layers, AdamW on the rest, cosine decay."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "layers" in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "layers" not in n]
    optimizers = [
        muon.Muon(matrices, lr=rate),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]

    def factor(step: int) -> float:
        return min(1.0, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * step / steps))

    schedules = [torch.optim.lr_scheduler.LambdaLR(o, factor) for o in optimizers]
    model.train()
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("loss {task.fields[loss]:.3f}")) as progress:
        bar = progress.add_task(name, total=steps, loss=math.nan)
        for _, batch in zip(range(steps), batches, strict=False):
            value = loss(model, batch)
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            progress.update(bar, advance=1, loss=value.item())


def save(model: LlamaForCausalLM, tokens: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save weights in bfloat16 beside their tokenizer, readable by everyone."""
    model.to(torch.bfloat16).save_pretrained(folder)
    tokens.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)


@click.command()
@click.option("--steps", default=3000, show_default=True, help="Steps of the target.")
@click.option("--draft-steps", default=1200, show_default=True, help="Steps of the draft.")
@click.option("--out", type=click.Path(path_type=Path), default=HERE, help="Folder to write to.")
@click.option("--seed", default=0, show_default=True)
def main(*, steps: int, draft_steps: int, out: Path, seed: int) -> None:
    """Train the target on the language, then distil the draft from it."""
    torch.manual_seed(seed)
    torch.set_num_threads(2)
    tokens = tokenizer.build(seed=seed, context=CONTEXT)
    target = new_model(tokens, width=128, inner=384, layers=4, heads=4)
    stream = dataset.batches(tokens, seed=seed)
    fit(target, cross_entropy, batches=stream, steps=steps, rate=4e-3, name="target")
    draft = new_model(tokens, width=64, inner=192, layers=2, heads=2)
    loss = distill.loss_from(target)
    fit(draft, loss, batches=stream, steps=draft_steps, rate=6e-3, name="draft")
    save(target, tokens, out / "target")
    save(draft, tokens, out / "draft")
    heldout.write(out / "heldout.jsonl", language.held_out())


if __name__ == "__main__":
    main()
