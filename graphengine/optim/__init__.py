"""Optimizers, and what they are configured with."""

from graphengine.ir.names import unknown_in
from graphengine.optim.clip import Clip, ClipByGlobalNorm, ClipByValue
from graphengine.optim.rules import GD, SGD, Adagrad, Adam, AdamW, RMSProp

__all__ = ["GD", "SGD", "Adagrad", "Adam", "AdamW", "Clip", "ClipByGlobalNorm", "ClipByValue", "RMSProp"]

__dir__ = __all__.copy
__getattr__ = unknown_in("optim")
