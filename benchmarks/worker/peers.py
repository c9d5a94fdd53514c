"""The peers by name: the module of this folder that runs each, the package that it needs, and its variant."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ALONE", "BLAS", "ENGINE", "PEERS", "Peer"]


class Peer(NamedTuple):
    """Who can be measured."""

    module: str
    package: str
    variant: str
    about: str


BLAS = "numpy-products"
ALONE = "graphengine-numba-alone"

PEERS = {
    "graphengine-numpy": Peer("with_graphengine", "graphengine", "numpy", "this engine, its NumPy backend"),
    "graphengine-numba": Peer("with_graphengine", "graphengine", "numba", "this engine, its numba backend"),
    "torch": Peer("with_torch", "torch", "eager", "PyTorch, eager"),
    "torch-compile": Peer("with_torch", "torch", "compile", "PyTorch, torch.compile"),
    "jax": Peer("with_jax", "jax", "jit", "JAX, jax.jit with donated buffers"),
    "autograd": Peer("with_autograd", "autograd", "", "HIPS autograd"),
    BLAS: Peer("with_numpy", "numpy", "", "the matrix products of the step alone, by NumPy's BLAS"),
    ALONE: Peer("with_graphengine", "graphengine", "numba-alone", "this engine, its numba backend, with one thread"),
}

ENGINE = tuple(name for name, peer in PEERS.items() if peer.package == "graphengine")
