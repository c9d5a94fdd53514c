"""How long a process takes from a graph to the end of its first training step.

A script, `python first_step.py BACKEND FOLDER GRAPH.json FEEDS.npz [CORES]`, that prints JSON; FOLDER is searched last.
Beside the engine nothing is imported ahead of what is timed but what the engine has imported.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def seconds(backend: str, graph_path: str, feeds_path: str) -> float:
    """Of compiling the graph and making one step, by the optimizer that the graph names, or SGD."""
    import numpy as np

    import graphengine as ge

    graph = ge.Graph.from_json(Path(graph_path).read_text(encoding="utf-8"))
    optimizer = graph.training.optimizer if graph.training else ge.SGD(learning_rate=0.01)
    with np.load(feeds_path) as file:
        feeds = dict(file)
    start = time.perf_counter()
    ge.compile(graph, loss="loss", optimizer=optimizer, backend=backend).step(feeds)
    return time.perf_counter() - start


if __name__ == "__main__":
    backend, folder, graph, feeds, *cores = sys.argv[1:]
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores[0])])
    # Modules beside this file are not meant, and the engine is found where it is not installed.
    sys.path[:] = [*sys.path[1:], folder]
    print(json.dumps({"seconds": seconds(backend, graph, feeds)}))
