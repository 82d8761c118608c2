"""Router of a namespace. Without a cluster, it reads its configuration and endpoints from two files."""

import argparse
from pathlib import Path

from slipstream_runtime import contract, errors, logs
from slipstream_runtime.router import process


def main() -> None:
    """Parse the options and serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog=contract.ROUTER_MODULE, description=__doc__)
    parser.add_argument(
        "--config-map",
        type=_config_map,
        metavar="NAMESPACE/NAME",
        help="ConfigMap of the configuration, which the router watches",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="configuration, instead of --config-map"
    )
    parser.add_argument("--endpoints", type=Path, metavar="FILE", help="endpoints, with --config")
    parser.add_argument("--keys", type=Path, default=Path(contract.ROUTER_KEYS_DIRECTORY))
    parser.add_argument("--token", type=Path, default=Path(contract.ROUTER_TOKEN_DIRECTORY))
    parser.add_argument(
        "--tls", type=Path, metavar="DIR", help="certificate for clients; without it, no TLS"
    )
    parser.add_argument("--tls-port", type=int, default=contract.TLS_PORT)
    parser.add_argument(
        "--plain",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="serve plain HTTP on the API port, too",
    )
    parser.add_argument(
        "--engine-authorities",
        type=Path,
        metavar="DIR",
        help="certificate authorities of engines with TLS; without it, such engines get no requests",
    )
    parser.add_argument(
        "--engine-host", metavar="NAME", help="DNS name in the certificates of engines"
    )
    parser.add_argument("--api-port", type=int, default=contract.API_PORT)
    parser.add_argument("--management-port", type=int, default=contract.MANAGEMENT_PORT)
    parser.add_argument(
        "--linger",
        type=float,
        default=contract.LINGER_SECONDS,
        metavar="SECONDS",
        help="time after SIGTERM in which new requests are still served",
    )
    parser.add_argument(
        "--grace",
        type=float,
        default=contract.DRAIN_SECONDS,
        metavar="SECONDS",
        help="time after that for running requests to finish",
    )
    options = parser.parse_args()
    files = options.config is not None and options.endpoints is not None
    if files == (options.config_map is not None):
        parser.error("Use --config-map NAMESPACE/NAME, or --config FILE and --endpoints FILE.")
    if options.tls is None and not options.plain:
        parser.error("Use --tls DIR with --no-plain.")
    logs.configure()
    try:
        process.run(options)
    except errors.EngineError as error:
        parser.exit(error.exit_code, f"{error.reason}\n")


def _config_map(text: str) -> tuple[str, str]:
    namespace, separator, name = text.partition("/")
    if not separator or not namespace or not name:
        raise argparse.ArgumentTypeError(f'"{text}" must have the form NAMESPACE/NAME')
    return namespace, name


if __name__ == "__main__":
    main()
