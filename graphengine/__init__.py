"""A static, typed computation graph: declared once, differentiated, planned, and run fast."""

from graphengine import data, zoo
from graphengine.compile import UnreachedParameterWarning, compile
from graphengine.ir import init
from graphengine.ir.graph import Graph, Node
from graphengine.ir.spec import load
from graphengine.ir.training import Training
from graphengine.ops.activation import *
from graphengine.ops.broadcast import *
from graphengine.ops.compare import *
from graphengine.ops.elementwise import *
from graphengine.ops.erf import *
from graphengine.ops.index import *
from graphengine.ops.linalg import *
from graphengine.ops.loss import *
from graphengine.ops.power import *
from graphengine.ops.reduce import *
from graphengine.ops.regularizer import *
from graphengine.ops.shape import *
from graphengine.optim import schedules
from graphengine.optim.clip import ClipByGlobalNorm, ClipByValue
from graphengine.optim.rules import GD, SGD, Adagrad, Adam, AdamW, RMSProp
from graphengine.optim.schedules import (
    CosineDecay,
    ExponentialDecay,
    InverseTimeDecay,
    Piecewise,
    StepDecay,
    Warmup,
)
from graphengine.testing import gradcheck
from graphengine.train import *
from graphengine.transform.adjoint import grad
