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
    assert [line.split()[:: len(line.split()) - 1] for line in done.stdout.splitlines()[1:]] == [["numpy", "1"]] * 2
