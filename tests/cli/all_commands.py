"""Every command in one process, which may lack what most have: `python -m tests.cli.all_commands FOLDER [COMMAND...]`.

FOLDER is that of the fixture. Exit codes that are not as they should be go to FOLDER/wrong.txt, with what was raised.
"""

import os
import sys
import traceback
from pathlib import Path

WEIGHTS = ("--weights", "weights.safetensors", "--data", "data.npz")
COMMANDS = {
    "--version": 0,
    "--help": 0,
    "validate net.json": 0,
    "summary net.json": 0,
    "summary net.json --json": 0,
    "lint net.json": 0,
    "schema": 0,
    "train net.json --data data.npz --epochs 2 --validation 0.2": 0,
    "train net.json --data data.npz --epochs 2 --checkpoint run --json": 0,
    "train net.json --data data.npz --epochs 3 --checkpoint run --resume": 0,
    " ".join(("predict net.json --out out.npz", *WEIGHTS)): 0,
    " ".join(("predict net.json", *WEIGHTS)): 0,
    " ".join(("evaluate net.json --json --metric accuracy", *WEIGHTS)): 0,
    " ".join(("evaluate net.json", *WEIGHTS)): 0,
    "compare net.json --samples 1 --seconds 0": 0,
    "reproduce": 0,
    "bench": 2,
    "validate none.json": 1,
    "none": 2,
}


def run(arguments: list[str]) -> object:
    """The exit code of a command."""
    from graphengine.cli import main

    sys.argv = ["graphengine", *arguments]
    try:
        main()
    except SystemExit as stopped:
        return stopped.code or 0
    return 0


def main(folder: Path, *more: str) -> None:
    os.chdir(folder)
    wrong = []
    for command, expected in {**COMMANDS, **dict.fromkeys(more, 0)}.items():
        try:
            code = run(command.split())
        except BaseException:
            code = traceback.format_exc()
        if code != expected:
            wrong.append(f"{command}: {code}\n")
    Path("wrong.txt").write_text("".join(wrong))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
