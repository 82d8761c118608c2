"""vLLM's own verdict on combinations of arguments.

`python -m tests.support.vllm_checks` prints case -> error, or null. It runs as a process of its own, since importing
vLLM takes 15 seconds and logs warnings.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.support import engines

NGRAM = (
    '--speculative-config={"method": "ngram", "num_speculative_tokens": 4, '
    '"prompt_lookup_max": 4, "prompt_lookup_min": 2}'
)
OFFLOAD = (
    '--kv-transfer-config={"kv_connector": "OffloadingConnector", "kv_role": "kv_both", '
    '"kv_connector_extra_config": {"cpu_bytes_to_use": 1073741824}}'
)
TIERS = OFFLOAD.replace(
    "1073741824",
    '1073741824, "spec_name": "TieringOffloadingSpec", '
    '"secondary_tiers": [{"type": "fs", "root_dir": "/tmp/offload"}]',
)
LORA = ("--enable-lora", "--max-loras=4")
TAKEN: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "as many tokens as sequences": ("--max-num-batched-tokens=128", "--max-num-seqs=128"),
    "adapters and speculation in big steps": (*LORA, NGRAM, "--max-num-seqs=8"),
    "several engines": ("--data-parallel-size=2",),
    "offload beside adapters and speculation": (OFFLOAD, NGRAM, *LORA, "--max-num-seqs=8"),
    "offload to disk": (TIERS,),
    "offload of several engines": (OFFLOAD, "--data-parallel-size=2"),
}
REFUSED: dict[str, tuple[str, ...]] = {
    "fewer tokens than sequences": ("--max-num-batched-tokens=64", "--max-num-seqs=128"),
    "whole prompts in small steps": (
        "--no-enable-chunked-prefill",
        "--max-num-batched-tokens=512",
        "--max-model-len=1024",
    ),
    "adapters and speculation in small steps": (
        *LORA,
        NGRAM,
        "--max-num-seqs=128",
        "--max-num-batched-tokens=512",
    ),
    "suffix without its library": (
        '--speculative-config={"method": "suffix", "num_speculative_tokens": 4}',
    ),
    "asynchronous n-grams": (NGRAM, "--async-scheduling"),
    "sleep on a cpu": ("--enable-sleep-mode",),
    "moving experts on a cpu": ("--enable-eplb", "--enable-expert-parallel"),
    "more active than running": ("--max-num-active-seqs=9", "--max-num-seqs=8"),
    "a threshold past the context": (
        "--long-prefill-token-threshold=2048",
        "--max-model-len=1024",
    ),
    "fewer adapters in memory than in a step": (*LORA, "--max-cpu-loras=2"),
    "tool choice without a parser": ("--enable-auto-tool-choice",),
    "logged outputs without requests": ("--enable-log-outputs",),
}


def main() -> None:
    """Print what vLLM says to every case."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers import cli_args
    from vllm.usage.usage_lib import UsageContext
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    def error(words: tuple[str, ...], model: str) -> str | None:
        parser: Any = cli_args.make_arg_parser(FlexibleArgumentParser(exit_on_error=False))
        try:
            parsed = parser.parse_args(["--model", model, "--enforce-eager", *words])
            cli_args.validate_parsed_serve_args(parsed)
            AsyncEngineArgs.from_cli_args(parsed).create_engine_config(
                usage_context=UsageContext.OPENAI_API_SERVER
            )
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return None

    with tempfile.TemporaryDirectory() as folder:
        engines.write_model(Path(folder))
        found = {name: error(words, folder) for name, words in {**TAKEN, **REFUSED}.items()}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
