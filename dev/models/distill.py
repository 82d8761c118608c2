"""Teach the draft to agree with the target, which is what makes its proposals be accepted."""

from collections.abc import Callable

import torch
from torch.nn import functional
from transformers import LlamaForCausalLM

from dev.models import dataset


def loss_from(
    teacher: LlamaForCausalLM,
) -> Callable[[LlamaForCausalLM, dataset.Batch], torch.Tensor]:
    """A loss: the weighted divergence of the student's next-token distribution from the teacher's."""
    teacher.eval()

    def log_probabilities(model: LlamaForCausalLM, batch: dataset.Batch) -> torch.Tensor:
        logits = model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits
        return logits[:, :-1].log_softmax(-1)

    def loss(student: LlamaForCausalLM, batch: dataset.Batch) -> torch.Tensor:
        with torch.no_grad():
            wanted = log_probabilities(teacher, batch)
        got = log_probabilities(student, batch)
        each = functional.kl_div(got, wanted, reduction="none", log_target=True).sum(-1)
        return (each * batch.weight).sum() / batch.weight.sum()

    return loss
