"""The tokenizer of both models: byte-level, so it encodes any text and decodes it exactly.

Merges are learnt from the generated language; digits stay single, so that numbers can be computed
and copied one digit at a time.
"""

import random
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from dev.models import language

VOCABULARY = 1024
PAD, END, SYSTEM, USER, ASSISTANT = SPECIALS = (
    "<|pad|>",
    "<|end|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
)
CHAT_TEMPLATE = (
    "{%- for m in messages -%}"
    "{%- set role = m.role if m.role in ('user', 'assistant') else 'system' -%}"
    "{{- '<|' + role + '|>' + (m.content or '') | trim -}}"
    "{%- if role == 'assistant' -%}{{- '<|end|>' -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


def build(*, seed: int, context: int) -> PreTrainedTokenizerFast:
    """Train the tokenizer on training questions and their answers."""
    rng = random.Random(seed)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(text, special=True, normalized=False) for text in SPECIALS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    items = [
        language.draw(rng, task=task, held_out=False)
        for task in language.TASKS
        for _ in range(4000)
    ]
    tokenizer.train_from_iterator((t for i in items for t in (i.prompt, i.answer)), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        clean_up_tokenization_spaces=False,
        model_max_length=context,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def load(folder: Path) -> PreTrainedTokenizerFast:
    """Load the tokenizer from a model's folder."""
    return PreTrainedTokenizerFast.from_pretrained(folder)
