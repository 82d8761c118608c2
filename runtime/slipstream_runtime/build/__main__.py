"""`python -m slipstream_runtime.build --config FILE --stage NAME`: run one stage of a build, or plan it.

It exits with 0 and a report in the termination log, or with the reason of its failure there: 1 if another run may
succeed, 2 if none can. A run continues a killed one.
"""

import argparse
import time
from pathlib import Path
from typing import NoReturn

from slipstream_runtime import contract, job, logs
from slipstream_runtime.build.progress import Progress


def main() -> NoReturn:
    """Run one stage and exit."""
    job.fail_when_stopped()
    parser = argparse.ArgumentParser(prog=contract.BUILD_MODULE, description=__doc__)
    parser.add_argument("--config", type=Path, metavar="FILE", help="recipe")
    work = parser.add_mutually_exclusive_group(required=True)
    work.add_argument("--stage", metavar="NAME", help="stage, such as source or 0-quantize")
    work.add_argument("--plan", action="store_true", help="print memory, disk and time as JSON")
    work.add_argument("--compare", nargs=2, metavar="URI", help="print how two artifacts differ")
    parser.add_argument("--plain-http", action="store_true", help="compare images without TLS")
    parser.add_argument("--management-port", type=int, default=contract.MANAGEMENT_PORT)
    parser.add_argument("--termination-log", type=Path, default=Path(contract.TERMINATION_LOG))
    options = parser.parse_args()
    if options.config is None and options.compare is None:
        parser.error("--config is required")
    logs.configure()
    # NB: --help needs none of the libraries.
    from slipstream_runtime.build import command  # noqa: PLC0415

    if options.compare is not None:
        job.leave(command.compare(options.compare, plain_http=options.plain_http))
    if options.plan:
        job.leave(command.plan(options.config))
    progress = Progress(options.stage, clock=time.monotonic)
    job.show(progress.status, port=options.management_port)
    job.leave(
        command.stage(
            options.config,
            options.stage,
            progress=progress,
            termination_log=options.termination_log,
        )
    )


if __name__ == "__main__":
    main()
