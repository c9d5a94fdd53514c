"""A static, typed computation graph: declared once, differentiated, planned, and run fast.

The op files list their public functions in `__all__`, and all of them are here: a new op needs no line of its own.
"""

import typing as _typing

from graphengine import optim as optim
from graphengine.backends.threads import get_threads as get_threads
from graphengine.backends.threads import set_threads as set_threads
from graphengine.compile import compile as compile
from graphengine.errors import *
from graphengine.executable import Executable as Executable
from graphengine.gradients import Gradients as Gradients
from graphengine.ir import init as init
from graphengine.ir.arguments import check_public as _check_public
from graphengine.ir.graph import Graph as Graph
from graphengine.ir.limits import Limits as Limits
from graphengine.ir.names import unknown_in as _unknown_in
from graphengine.ir.node import Node as Node
from graphengine.ir.op import Op as Op
from graphengine.ir.spec import load as load
from graphengine.ir.training import Training as Training
from graphengine.ir.types import TensorType as TensorType
from graphengine.ops.activation import *
from graphengine.ops.attention import *
from graphengine.ops.broadcast import *
from graphengine.ops.compare import *
from graphengine.ops.convolution import *
from graphengine.ops.custom import *
from graphengine.ops.elementwise import *
from graphengine.ops.index import *
from graphengine.ops.loss import *
from graphengine.ops.matmul import *
from graphengine.ops.norm import *
from graphengine.ops.pool import *
from graphengine.ops.random import *
from graphengine.ops.reduce import *
from graphengine.ops.regularizer import *
from graphengine.ops.scan import *
from graphengine.ops.shape import *
from graphengine.optim import schedules as schedules
from graphengine.optim.clip import ClipByGlobalNorm as ClipByGlobalNorm
from graphengine.optim.clip import ClipByValue as ClipByValue
from graphengine.optim.rules import *
from graphengine.optim.schedules import CosineDecay as CosineDecay
from graphengine.optim.schedules import ExponentialDecay as ExponentialDecay
from graphengine.optim.schedules import InverseTimeDecay as InverseTimeDecay
from graphengine.optim.schedules import Piecewise as Piecewise
from graphengine.optim.schedules import StepDecay as StepDecay
from graphengine.optim.schedules import Warmup as Warmup
from graphengine.testing import GradientError as GradientError
from graphengine.testing import gradcheck as gradcheck
from graphengine.train import *
from graphengine.transform.adjoint import grad as grad
from graphengine.transform.derivatives import *
from graphengine.transform.inference import for_inference as for_inference
from graphengine.transform.linear_folding import collapse as collapse
from graphengine.transform.per_example import *
from graphengine.transform.rewrite.passes import rewrites as rewrites
from graphengine.transform.training_graph import UnreachedParameterWarning as UnreachedParameterWarning

if _typing.TYPE_CHECKING:
    from graphengine import data as data
    from graphengine import layers as layers
    from graphengine import zoo as zoo

_check_public(globals(), [_name for _name in globals() if _name[0] != "_"])

_MODULES = frozenset({"data", "init", "layers", "metrics", "optim", "schedules", "zoo"})


def __getattr__(name: str) -> object:
    """Import `data`, `layers` and `zoo` when they are first asked for: a graph can do without."""
    if name not in _MODULES:
        _unknown_in("")(name)
    from importlib import import_module

    return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    """The public names, and the modules that users name, imported already or not."""
    own = {name for name, value in globals().items() if name[0] != "_" and not hasattr(value, "__spec__")}
    return sorted(own | _MODULES)
