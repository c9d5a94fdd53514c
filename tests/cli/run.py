"""Running a command, as CliRunner does or in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from typer import Typer
from typer.testing import CliRunner, Result

from graphengine.cli import app


def run(*arguments: object, app: Typer = app) -> Result:
    """The result of `graphengine ARGUMENTS`; what was raised beyond an exit is raised here, too."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def refused(*arguments: object, app: Typer = app) -> str:
    """The message of a command that must end with exit code 1, having printed no result."""
    result = run(*arguments, app=app)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    return result.stderr.removeprefix("error: ")


def process(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m graphengine ARGUMENTS` in a process of its own."""
    command = [sys.executable, "-m", "graphengine", *map(str, arguments)]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "PYTHONIOENCODING": "utf-8", **environment}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, encoding="utf-8", timeout=60)
