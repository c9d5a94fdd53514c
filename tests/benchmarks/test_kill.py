import os
import subprocess
import sys

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the children are forked")
def test_a_training_that_is_killed_comes_to_the_same_bits() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.kill", "1", "numpy"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert [(row[0], row[2], row[-1]) for row in rows] == [("numpy", "1", "0")] * 2
