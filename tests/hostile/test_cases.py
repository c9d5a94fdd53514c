"""Files of strangers: each gives an error of graphengine's that tells the place, within 2 seconds and 200 MB."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="the limits of memory and time are those of Linux")
def test_what_strangers_write_is_refused_where_it_is_wrong_and_in_time() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.hostile.child"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found = [json.loads(line) for line in run.stdout.splitlines()]
    assert [each for each in found if each[2]] == []
    count = Counter(kind for kind, *_ in found)
    assert len(found) >= 250
    assert min(count.values()) >= 10, count
