"""`python -m slipstream_runtime.fetch --model URI`: download a model into the cache, or only inspect it.

It exits with 0 and a report on the checkpoints in the termination log, or with the reason of its failure there. A run
continues the download of a killed one.
"""

import argparse
import functools
import time
from pathlib import Path
from typing import NoReturn

from slipstream_runtime import contract, errors, job, logs
from slipstream_runtime.fetch import management, work
from slipstream_runtime.model_files.progress import Progress


def main() -> NoReturn:
    """Run the work of one pod and exit."""
    job.fail_when_stopped()
    parser = argparse.ArgumentParser(prog=contract.FETCH_MODULE, description=__doc__)
    parser.add_argument("--model", metavar="URI", help="source of the model")
    parser.add_argument("--draft", metavar="URI", help="source of its draft model")
    parser.add_argument("--inspect", action="store_true", help="read sizes and config.json only")
    parser.add_argument("--cache", type=Path, default=Path(contract.CACHE_DIRECTORY))
    parser.add_argument("--management-port", type=int, default=contract.MANAGEMENT_PORT)
    parser.add_argument("--termination-log", type=Path, default=Path(contract.TERMINATION_LOG))
    options = parser.parse_args()
    logs.configure()
    progress = Progress(clock=time.monotonic)
    job.show(functools.partial(management.status, progress), port=options.management_port)
    job.leave(_run(options, progress))


def _run(options: argparse.Namespace, progress: Progress) -> int:
    """Return the exit code."""
    from slipstream_runtime.model_files import sources  # noqa: PLC0415

    try:
        found = work.Work(
            model=options.model,
            draft=options.draft,
            cache=sources.cache_folder(options.cache),
            inspect=options.inspect,
            progress=progress,
        ).run()
    except errors.EngineError as error:
        logs.failure("failed", reason=error.reason)
        logs.leave_reason(options.termination_log, error.reason)
        return error.exit_code
    except Exception as error:
        logs.failure("failed", error=error)
        logs.leave_reason(options.termination_log, errors.describe(error))
        return 1
    logs.leave_reason(options.termination_log, found)
    logs.event("done", **management.status(progress))
    return 0


if __name__ == "__main__":
    main()
