"""What a user's mistake looks like: its message on stderr, exit code 1, and no traceback."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from graphengine.cli.show import say
from graphengine.errors import GraphEngineError
from graphengine.wording import printable

_INTERRUPTED = 130
"""The exit code after Ctrl-C, as a shell has it: 128 and the number of the signal."""


class Commands(TyperGroup):
    """The group of all commands, each run so that mistakes are told."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        """The context of a command line, which is its `obj`."""
        extra.setdefault("obj", list(args))
        return super().make_context(info_name, args, *rest, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for; `ctx` is a click.Context, wherever typer has it from."""
        with mistakes_told():
            return super().invoke(ctx)


@contextmanager
def mistakes_told() -> Iterator[None]:
    """Tell errors and warnings as messages; anything else that is raised inside is a fault of the program itself."""
    _never_fail_to_encode()
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)  # all of ours are, and those of others are for programmers
        warnings.showwarning = lambda message, *_: say(str(message), "warning", "bold yellow")
        try:
            yield
            if sys.stdout is not None:
                sys.stdout.flush()  # so that a full disk or a closed pipe is found while it can be told
        except BrokenPipeError:
            raise  # typer ends quietly when the reader of a pipe has gone
        except (GraphEngineError, OSError, MemoryError) as error:
            say(_message(error))
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            raise typer.Exit(_INTERRUPTED) from None


def _message(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}"
    if isinstance(error, GraphEngineError):
        return "\n  ".join((error.message, *error.context))
    if not isinstance(error, OSError):
        return str(error)
    what = error.strerror or str(error) or type(error).__name__
    return printable(f"{error.filename}: {what}") if error.filename else what


def _never_fail_to_encode() -> None:
    """Let streams whose encoding lacks a character write `?` for it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
