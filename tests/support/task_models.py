"""Tiny random models of the tasks that vLLM serves beside text generation."""

import json
from pathlib import Path

import numpy as np
import tokenizers
import torch
import transformers
from safetensors.numpy import load_file, save_file
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from tests.support.engines import write_model


def write_head(folder: Path, *, labels: int) -> None:
    """A Llama with a head for that many labels: LlamaForSequenceClassification."""
    write_model(folder)
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["LlamaForSequenceClassification"]
    config["id2label"] = {str(index): f"label-{index}" for index in range(labels)}
    config["pad_token_id"] = 1
    (folder / "config.json").write_text(json.dumps(config))
    _replace_head(folder, config["hidden_size"], labels=labels)


def _replace_head(folder: Path, hidden: int, *, labels: int) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    random = np.random.default_rng(1)
    weights["score.weight"] = random.standard_normal((labels, hidden)).astype(np.float32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def write_reward(folder: Path) -> None:
    """A Qwen2 that scores each token: Qwen2ForRewardModel."""
    torch.manual_seed(0)
    write_model(folder)
    (folder / "model.safetensors").unlink()
    config = transformers.Qwen2Config(
        vocab_size=258,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        dtype="float32",
    )
    model = transformers.Qwen2Model(config)
    weights = {f"model.{name}": value.numpy() for name, value in model.state_dict().items()}
    head = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
    weights |= {f"score.{name}": value.numpy() for name, value in head.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    written = {**config.to_dict(), "architectures": ["Qwen2ForRewardModel"]}
    (folder / "config.json").write_text(json.dumps(written))


def write_speech(folder: Path) -> None:
    """A random Whisper over single bytes."""
    torch.manual_seed(0)
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    special = [
        "<|endoftext|>",
        "<|startoftranscript|>",
        *(f"<|{language}|>" for language in LANGUAGES),
        "<|transcribe|>",
        "<|translate|>",
        "<|startofprev|>",
        "<|nospeech|>",
        "<|notimestamps|>",
    ]
    times = [f"<|{number / 50:.2f}|>" for number in range(1501)]
    vocabulary = {token: number for number, token in enumerate([*alphabet, *special, *times])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.add_special_tokens(special)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    first = vocabulary["<|endoftext|>"]
    names = {"bos_token": special[0], "eos_token": special[0], "unk_token": special[0]}
    settings = {"tokenizer_class": "WhisperTokenizer", "pad_token": special[0], **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    config = transformers.WhisperConfig(
        vocab_size=len(vocabulary),
        num_mel_bins=80,
        d_model=64,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        max_source_positions=1500,
        max_target_positions=64,
        decoder_start_token_id=vocabulary["<|startoftranscript|>"],
        bos_token_id=first,
        eos_token_id=first,
        pad_token_id=first,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        dtype="float32",
    )
    transformers.WhisperForConditionalGeneration(config).save_pretrained(folder)
    transformers.WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
