"""`python -m slipstream_cli`: the same as the program `slipstream`."""

from slipstream_cli.main import main

if __name__ == "__main__":
    main(prog_name="slipstream")
