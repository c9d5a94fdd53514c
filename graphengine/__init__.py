"""A static, typed computation graph: declared once, differentiated, planned, and run fast."""

from graphengine import data
from graphengine.compile import compile
from graphengine.ir.graph import Graph, Node
from graphengine.ops.broadcast import *
from graphengine.ops.compare import *
from graphengine.ops.elementwise import *
from graphengine.ops.erf import *
from graphengine.ops.linalg import *
from graphengine.ops.power import *
from graphengine.optim.rules import SGD
from graphengine.transform.adjoint import grad
