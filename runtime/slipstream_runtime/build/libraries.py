"""Manners of the libraries that builds use."""

import functools
import os

import tqdm  # type: ignore[import-untyped]


def quiet() -> None:
    """Switch progress bars and chatter of the libraries off; call it before llm-compressor is imported.

    A bar writes thousands of characters a line into the log of a Job. NB: llm-compressor 0.14 fails with
    LLM_COMPRESSOR_LOG_DISABLED, because its own log level is then not defined.
    """
    os.environ["LLM_COMPRESSOR_LOG_LEVEL"] = "ERROR"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tqdm.tqdm.__init__ = functools.partialmethod(tqdm.tqdm.__init__, disable=True)
