"""`python -m slipstream_runtime.retrieval build|serve`: index of texts for the hook `retrieve` of routes."""

from slipstream_runtime import errors, logs
from slipstream_runtime.retrieval import command


def main() -> None:
    """Parse the options and run the command."""
    parser = command.parser()
    options = parser.parse_args()
    logs.configure()
    try:
        command.run(options)
    except errors.EngineError as error:
        parser.exit(error.exit_code, f"{error.reason}\n")


if __name__ == "__main__":
    main()
