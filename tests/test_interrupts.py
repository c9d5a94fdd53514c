"""Exceptions of signal handlers in the middle of runs: what changes weights is whole or not at all."""

from __future__ import annotations

import itertools
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

import graphengine as ge
from graphengine.backends import threads
from graphengine.backends.bound import is_whole
from graphengine.backends.undisturbed import undisturbed
from graphengine.compile import installed_backends
from graphengine.ir.node import apply
from graphengine.ir.op import Op
from graphengine.ir.types import Array, TensorType
from tests.ticks import Ticks, needs_signals

every_backend = pytest.mark.parametrize("backend", installed_backends())


class Stop(Exception):
    """What a handler raises."""


def stop() -> None:
    raise Stop


def network() -> ge.Graph:
    """Kernels in Python, in place, of a scan, and of several calls; states that FORWARD advances; slots."""
    g = ge.Graph("many")
    words, labels = g.input("words", ("batch", 6), "int64"), g.input("labels", ("batch",), "int64")
    h = ge.layers.embedding(words, 9, 4)
    h = ge.layers.batch_norm(ge.reshape(h, (-1, 4)))
    h = ge.dropout(ge.reshape(ge.softmax(ge.gelu(h)), ("batch", 24)), 0.2)
    h, _ = ge.scan(lambda c, _: (ge.tanh(c) * 0.9, None), ge.layers.dense(h, 5), None, length=4)
    g.output("loss", ge.cross_entropy(ge.layers.dense(h, 3), labels))
    return g


FEEDS = {"words": np.arange(48).reshape(8, 6) % 9, "labels": np.arange(8) % 3}


def compiled(backend: str) -> ge.Executable:
    return ge.compile(network(), loss="loss", optimizer=ge.Adam(0.01, clip=ge.ClipByGlobalNorm(1.0)), backend=backend)


def state(exe: ge.Executable) -> bytes:
    """All that a step changes."""
    return b"".join(held[name].tobytes() for held in (exe.parameters, exe.state) for name in held)


def halves(exe: ge.Executable) -> None:
    exe.update(exe.gradients(FEEDS))


def interrupted(work: Callable[[], object], seconds: float) -> bool:
    """Do work in which a signal handler raises, so many seconds after its begin; whether it did."""
    before = signal.signal(signal.SIGALRM, lambda *_: stop())
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            work()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Stop:
        return True
    finally:
        signal.signal(signal.SIGALRM, before)
    return False
