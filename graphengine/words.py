"""What other libraries call things, and what to write here instead. It is imported when a name is not found."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache, reduce
from importlib import import_module
from types import FunctionType
from typing import get_origin

from graphengine.wording import LENGTH, shown

_PACKAGE = __name__.partition(".")[0]
_MODULES = ("layers", "optim", "init", "schedules", "metrics", "data", "zoo")

_ARGUMENTS = {
    "activation": "act actfn activationfn activationfunction nonlinearity",
    "axes": "perm dims",
    "axis": "dim dims axes",
    "backend": "device target jit",
    "batch_size": "batch bs minibatchsize",
    "beta1": "b1 betas",
    "beta2": "b2 betas",
    "bias": "usebias withbias hasbias",
    "boundaries": "milestones",
    "callbacks": "callback",
    "causal": "iscausal usecausalmask",
    "channels": "outchannels filters features numfilters nfilters outfeatures",
    "clip": "clipnorm clipvalue globalclipnorm maxnorm gradclip gradientclip clipgrad clipgradnorm",
    "count": "numembeddings vocabsize inputdim",
    "decay": "rho alpha decayrate smoothing",
    "dilation": "dilationrate",
    "dtype": "type datatype",
    "epochs": "nepochs nbepoch numepochs niter maxiter iterations maxepochs",
    "epochs_done": "initialepoch startepoch",
    "epsilon": "eps fuzz",
    "every": "stepsize decaysteps savefreq period transitionsteps",
    "factor": "gamma decayrate rate",
    "final": "etamin endvalue minlr alpha endlearningrate",
    "folds": "k nsplits nfolds cv",
    "gain": "scale",
    "heads": "numheads nheads nhead",
    "high": "max maxval b upper maxvalue",
    "init": "initializer kernelinitializer weightinit winit initialvalue initfn kernelinit embeddingsinitializer value",
    "initial": "initiallr initvalue initiallearningrate lr learningrate baselr",
    "initial_accumulator": "initialaccumulatorvalue",
    "keepdims": "keepdim",
    "labels": "target targets ytrue y true",
    "learning_rate": "lr alpha eta stepsize rate baselr",
    "limit": "maxnorm norm clipvalue clipnorm threshold value maxvalue",
    "logits": "input inputs ypred prediction predictions output preds x",
    "loss": "objective criterion cost lossfn lossfunction",
    "low": "min minval a lower minvalue",
    "mask": "attnmask attentionmask",
    "memory_budget": "memory maxmemory memorylimit",
    "metrics": "metric",
    "min_delta": "delta tolerance tol threshold",
    "momentum": "mu beta",
    "monitor": "metric quantity",
    "num_layers": "layers nlayers depth",
    "optimizer": "opt optim optimiser",
    "outputs": "output",
    "padding": "pad",
    "parts": "numorsizesplits indicesorsections splitsize sections num",
    "path": "filepath file filename fname",
    "prediction": "input inputs ypred output logits pred predictions x",
    "progress": "verbose",
    "rate": "p drop prob probability dropout dropprob dropoutrate decayrate gamma",
    "reduction": "reduce sizeaverage",
    "restore_best": "restorebestweights",
    "return_state": "returnstates",
    "seed": "randomstate randomseed rng key",
    "shape": "size dims newshape targetshape inputshape",
    "slope": "negativeslope alpha",
    "std": "stddev sigma scale sd standarddeviation",
    "steps": "decaysteps tmax totaliters warmupsteps nwarmup totalsteps maxsteps transitionsteps",
    "target": "ytrue y true labels targets",
    "targets": "ytrue y true labels target",
    "then": "schedule after base",
    "tolerance": "tol atol rtol",
    "trainable": "requiresgrad",
    "units": "outfeatures size hiddensize features nunits numunits width embeddingdim dmodel outputdim hiddendim",
    "validation": "validationdata val valdata validationsplit evalset valid",
    "value": "val fill fillvalue constant c",
    "values": "learningrates lrs",
    "weight_decay": "l2 wd decay lambda regularization",
    "window": "kernelsize kernel filtersize poolsize ksize",
    "wrt": "params parameters variables weights argnums inputs",
    "x": "input inputs tensor a",
}
"""By the name of an argument what it is called elsewhere, in small letters and without underscores."""

_NAMES = {
    "ge.Checkpoint": "modelcheckpoint",
    "ge.CosineDecay": "cosineannealinglr cosineannealing cosine cosineschedule",
    "ge.Graph": "model module network tape session",
    "graph.input(name, shape), for graph = ge.Graph()": "placeholder input inputs",
    "graph.parameter(name, shape), for graph = ge.Graph()": "variable parameter param weight",
    "graph.constant(name, value), for graph = ge.Graph()": "constant tensor array asarray zeros ones eye zeroslike",
    "graph.output(name, node), for graph = ge.Graph()": "output outputs",
    "ge.Piecewise": "multisteplr piecewiseconstant piecewiseconstantdecay",
    "ge.StepDecay": "steplr",
    "ge.ExponentialDecay": "exponentiallr",
    "ge.Warmup": "linearwarmup linearlr",
    "ge.ClipByGlobalNorm": "clipgradnorm clipbynorm globalnorm",
    "ge.ClipByValue": "clipgradvalue",
    "ge.absolute_error": "mae l1loss meanabsoluteerror",
    "ge.binary_cross_entropy": "bce bcewithlogits sigmoidcrossentropy logloss binarycrossentropywithlogits",
    "ge.clip": "clamp clipbyvalue",
    "ge.compile": "jit function build",
    "ge.concat": "cat concatenate hstack vstack",
    "ge.cross_entropy": "nll nllloss softmaxcrossentropy categoricalcrossentropy sparsecategoricalcrossentropy",
    "ge.divide": "div truedivide",
    "ge.equal": "eq",
    "ge.evaluate": "score test",
    "ge.expand_dims": "unsqueeze newaxis",
    "ge.fit": "train trainer learn",
    "ge.gather": "take indexselect embeddinglookup takealongaxis",
    "ge.grad": "gradient gradients autograd backward valueandgrad gradienttape",
    "ge.greater": "gt",
    "ge.greater_equal": "ge",
    "ge.hard_tanh": "hardtanh",
    "ge.huber": "smoothl1 smoothl1loss huberloss",
    "ge.init.GlorotNormal": "xaviernormal",
    "ge.init.GlorotUniform": "xavier xavieruniform glorot lecununiform",
    "ge.init.HeNormal": "kaiming kaimingnormal he",
    "ge.init.HeUniform": "kaiminguniform",
    "ge.init.Normal": "randn randomnormal truncatednormal gaussian",
    "ge.init.Uniform": "rand randomuniform",
    "ge.layers": "nn layer",
    "ge.layers.conv1d": "convolution1d",
    "ge.layers.conv2d": "conv convolution convolution2d",
    "ge.layers.conv2d_transpose": "convtranspose2d deconv2d",
    "ge.layers.dense": "linear fc fullyconnected affine",
    "ge.layers.multi_head_attention": "multiheadattention selfattention mha",
    "ge.layers.transformer_block": "transformerencoderlayer transformer",
    "ge.leaky_relu": "lrelu",
    "ge.less": "lt",
    "ge.less_equal": "le",
    "ge.load": "loadmodel fromjson",
    "ge.logical_and": "bitwiseand",
    "ge.logical_not": "invert bitwisenot",
    "ge.logical_or": "bitwiseor",
    "ge.matmul": "dot mm bmm inner tensordot einsum",
    "ge.max": "amax reducemax",
    "ge.mean": "average reducemean",
    "ge.metrics.mean_absolute_error": "mae",
    "ge.metrics.mean_squared_error": "mse",
    "ge.min": "amin reducemin",
    "ge.multiply": "mul",
    "ge.negative": "neg",
    "ge.optim": "optimizers optimizer",
    "ge.power": "pow floatpower",
    "ge.reshape": "view flatten ravel",
    "ge.save_parameters": "save saveweights statedict",
    "ge.scan": "whileloop foriloop",
    "ge.schedules": "lrscheduler scheduler lrschedules",
    "ge.silu": "swish",
    "ge.squared_error": "mse meansquarederror l2loss",
    "ge.square": "sqr",
    "ge.stop_gradient": "detach nograd",
    "ge.subtract": "sub",
    "ge.sum": "reducesum",
    "ge.transpose": "permute swapaxes moveaxis t",
    "ge.variance": "var",
    "ge.where": "select cond ifelse",
    "ge.zoo": "models applications",
}
"""By what to write here what it is called elsewhere, in small letters and without underscores."""

_OF_OBJECTS = {
    "Node": {
        "ge.compile(...).forward(feeds), which computes values": "numpy item tolist eval value values data",
        "ge.grad(loss, [x]) for nodes of gradients, or exe.backward() for arrays": "grad backward gradient",
        "x.type.size": "size numel nbytes",
        "x.ndim": "dim rank",
        "ge.cast(x, dtype)": "astype to float double long int half typeas",
        "exe.parameters[name] = array": "assign assignadd copy fill set setvalue update",
        "[x], a list of nodes": "append extend",
    },
    "Graph": {
        "exe = ge.compile(graph, loss=...)": "compile build forward backward step run predict call",
        "exe = ge.compile(graph, loss=..., optimizer=...), then ge.fit(exe, data, epochs=...)": "fit train",
        "graph.input(name, shape)": "placeholder addinput",
        "graph.parameter(name, shape)": "variable weight param addparameter addweight getvariable",
        "graph.constant(name, value)": "tensor array addconstant",
        "graph.output(name, node)": "addoutput markoutput",
        "graph.save(path)": "dump write",
        "graph.to_json()": "json todict dumps",
        "ge.load(path)": "load read",
    },
    "Executable": {
        "exe.parameters, the arrays by name": "weights params variables statedict getweights trainablevariables",
        "exe.forward(feeds)": "run call apply infer",
        "exe.step(feeds), or ge.fit(exe, data, epochs=...)": "train trainstep trainonbatch",
        "ge.save_parameters(exe, path)": "save saveweights",
        "ge.load_parameters(exe, path)": "load loadweights loadstatedict setweights",
        "exe.graph.outputs": "outputs",
        "exe.needs() or exe.graph.inputs": "inputs",
        "exe.inference, which has no dropout": "eval training",
        "ge.compile(graph, loss=..., optimizer=ge.Adam(0.001)), which makes another": "lr learningrate optimizer",
        "print(exe.program) or exe.cost()": "summary",
    },
}
"""By the class of an object and what to write what is called so elsewhere."""


_SETTING = {
    "Node": {},
    "Graph": {
        "graph.training = ge.Training(loss=..., optimizer=...)": "loss optimizer epochs batchsize seed lr learningrate",
        "graph.input(name, shape), which adds one": "inputs",
        "graph.parameter(name, shape), which adds one": "parameters",
        "graph.state(name, shape), which adds one": "states",
    },
    "Executable": {
        "exe.parameters.update(arrays)": "parameters weights params",
        "exe.state.update(arrays)": "state states",
        "ge.compile(graph, seed=...), which makes another": "seed",
        "ge.compile(graph, loss=...), which makes another": "loss graph",
        "ge.compile(graph, backend=...), which makes another": "backend",
        "ge.compile(graph, memory_budget=...), which makes another": "memorybudget budget",
        "ge.compile(graph, non_finite=...), which makes another": "nonfinite",
    },
}
"""By the class of an object and what to write for what is set on it."""

_MADE_BY = {
    "Executable": "write ge.compile(graph, ...), which makes one",
    "Graph": "write ge.Graph(name), or ge.load(path)",
    "Node": "write graph.input(name, shape), graph.parameter(name, shape) or graph.constant(name, value)",
    "Op": "functions of ge, as ge.relu, apply ops to nodes",
}


def for_argument(name: str, known: Collection[str]) -> list[str]:
    """Those of the arguments `known` that `name` means elsewhere."""
    word = _plain(name)
    return [ours for ours in known if word == _plain(ours) or word in _ARGUMENTS.get(ours, "").split()]


def for_public(name: str, module: str = "", *, near: bool = True) -> str | None:
    """What to write for `name`, which `module` of this package lacks; with `near` what is spelled nearly so, too."""
    word = _plain(name)
    short = re.sub(r"(?<=.)(loss|layer|optimizer|initializer|activation|function|lr|s)$", "", word)
    close = difflib.get_close_matches(word, {key for key, _ in _every_name()}, n=1, cutoff=0.8) if near else ()
    preferred = module or ("layers" if name[:1].isupper() else "")
    for words in ((word,), (short,), close):
        found = [path for key, path in _every_name() if key in words]
        if found:
            return min(found, key=lambda path: (not path.startswith(f"ge.{preferred}."), path.count(".")))
    return None


def for_value(value: object, wanted: object) -> str:
    """What to say after a value that is none of the class, or other annotation, `wanted`; "" if nothing is known."""
    if isinstance(value, type) and isinstance(wanted, type) and issubclass(value, wanted):
        return f"; write {for_public(value.__name__)}(...)"
    if isinstance(value, str) and (path := for_public(value)) and re.fullmatch(r"ge(\.\w+)+", path):
        meant = reduce(getattr, path.split(".")[1:], import_module(_PACKAGE))
        if isinstance(meant, type) and isinstance(wanted, type) and issubclass(meant, wanted):
            return f"; write {path}(...)"
        if isinstance(meant, FunctionType) and get_origin(wanted) is Callable:
            return f"; write {path}"
    kind = getattr(wanted, "__name__", "")
    if kind == "Initializer":
        is_number = isinstance(value, int | float)
        return (
            f"; write ge.init.Constant({value})"
            if is_number
            else "; leave it out, and set exe.parameters[name] = array"
        )
    if get_origin(wanted) is Sequence and not isinstance(value, str):
        return f"; write ({value},)" if isinstance(value, int) else f"; write [{getattr(value, 'name', '...')}]"
    if kind == "Node" and isinstance(value, str):
        return f"; write graph[{shown(value)}] for the node of this name"
    return f"; {_MADE_BY[kind]}" if kind in _MADE_BY else ""


def remedy_of_object(cls: type, name: str, own: Collection[str], *, is_set: bool = False) -> str:
    """What to say after the name of an attribute that objects of a class, as a node is, lack, or that `is_set`."""
    kind = next(base.__name__ for base in cls.__mro__ if base.__name__ in _OF_OBJECTS)
    variable = {"Node": "x", "Graph": "graph", "Executable": "exe"}[kind]
    for remedy, words in _SETTING[kind].items() if is_set else ():
        if _plain(name) in words.split():
            return f"; write {remedy}"
    if is_set and name in own:
        return ""
    for remedy, words in _OF_OBJECTS[kind].items():
        if _plain(name) in words.split():
            return f"; write {remedy}"
    close = difflib.get_close_matches(name, own, n=1, cutoff=0.8)
    path = for_public(name, near=not close)
    if path and re.fullmatch(r"ge\.(layers\.)?[a-z]\w*", path):
        return f"; write {path}({'x' if kind == 'Graph' else variable}, ...)"
    return f"; did you mean {variable}.{close[0]}?" if close else f"; dir({variable}) lists what there is"


def no_attribute(module: str, name: str) -> str:
    """The message about a name that a public module lacks; "" is `ge` itself."""
    path = for_public(name, module) if len(name) <= LENGTH else None
    ours = f"ge.{module}".rstrip(".")
    return f"{ours} has no {shown(name)}; " + (f"write {path}" if path else f"dir({ours}) lists what there is")


@cache
def _every_name() -> tuple[tuple[str, str], ...]:
    """What is public, and what that is called elsewhere: pairs of a word, and of what to write."""
    return (*_public_names(), *((word, ours) for ours, words in _NAMES.items() for word in words.split()))


def _public_names() -> Iterator[tuple[str, str]]:
    package = import_module(_PACKAGE)
    yield from ((_plain(name), f"ge.{name}") for name in dir(package))
    for module in _MODULES:
        yield from ((_plain(name), f"ge.{module}.{name}") for name in dir(getattr(package, module)))


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
