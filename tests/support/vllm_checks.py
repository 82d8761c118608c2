"""vLLM's own verdict on combinations of arguments.

`python -m tests.support.vllm_checks` prints case -> error, or null, and the
accepted arguments that nothing reads. It runs as a process of its own, since importing
vLLM takes 15 seconds and logs warnings.
"""

import ast
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from slipstream_operator.core import argument_classes
from tests.support import engines

OTHER_SERVERS = (
    "launchers/api_server/entry.py",
    "launchers/dp_supervisor.py",
    "launchers/grpc_server.py",
    "launchers/launcher.py",
    "launchers/run_batch.py",
)
"""Files of vLLM's entrypoints that start servers of its own, which engines of this product do not use."""

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
    "moving experts on a cpu": ("--enable-eplb", "--enable-expert-parallel"),
    "more active than running": ("--max-num-active-seqs=9", "--max-num-seqs=8"),
    "a threshold past the context": (
        "--long-prefill-token-threshold=2048",
        "--max-model-len=1024",
    ),
    "fewer adapters in memory than in a step": (*LORA, "--max-cpu-loras=2"),
    "tool choice without a parser": ("--enable-auto-tool-choice",),
}


def unread() -> list[str]:
    """Return the arguments that spec.engineArgs accepts and that vLLM's engine or handlers do not read."""
    import dataclasses

    import vllm
    from vllm.engine.arg_utils import AsyncEngineArgs

    from slipstream_runtime.engine import serving

    folder = Path(vllm.__file__).parent
    fields = {field.name for field in dataclasses.fields(AsyncEngineArgs)}
    engine = _attributes([folder / "engine/arg_utils.py"], owner="self") & fields
    handlers = [
        path
        for path in (folder / "entrypoints").rglob("*.py")
        if not path.is_relative_to(folder / "entrypoints/cli")
        and path.relative_to(folder / "entrypoints").as_posix() not in OTHER_SERVERS
    ]
    server = _attributes(handlers, owner="args")
    # The engine of this product imports the plugins itself, as vLLM's launcher does.
    server |= _attributes([Path(serving.__file__)], owner="parsed")
    return sorted(
        {name for name in argument_classes.ENGINE if name.replace("-", "_") not in engine}
        | {name for name in argument_classes.SERVER if name.replace("-", "_") not in server}
    )


def _attributes(paths: list[Path], *, owner: str) -> set[str]:
    """Return the names of attributes that the code reads of variables and attributes called `owner`."""
    found = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Attribute(value=ast.Name(id=name) | ast.Attribute(attr=name), attr=read):
                    found |= {read} if name == owner else set()
                case ast.Call(
                    func=ast.Name(id="getattr"),
                    args=[
                        ast.Name(id=name) | ast.Attribute(attr=name),
                        ast.Constant(value=read),
                        *_,
                    ],
                ):
                    found |= {read} if name == owner else set()
    return found


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
    sys.stdout.write(json.dumps({"cases": found, "unread": unread()}))


if __name__ == "__main__":
    main()
