"""The papers' formulas in plain NumPy, and a problem with gradients written by hand: what rules are held to."""

from collections.abc import Callable

import numpy as np

import graphengine as ge

Arrays = dict[str, np.ndarray]
Rule = Callable[[np.ndarray, np.ndarray, dict[str, np.ndarray], int], np.ndarray]
"""(w, g, slots of w, t) -> the next w; the slots are changed."""


def problem(dtype: str = "float64") -> ge.Graph:
    """loss = 1/2 sum (x @ w + b - y)^2 + exp(s) with the parameters w, b and the scalar s."""
    graph = ge.Graph("problem", dtype=dtype)
    x, y = graph.input("x", (5, 3)), graph.input("y", (5, 2))
    w, b, s = graph.parameter("w", (3, 2)), graph.parameter("b", (2,)), graph.parameter("s", ())
    apart = x @ w + b - y
    graph.output("loss", 0.5 * ge.sum(apart * apart) + ge.exp(s))
    return graph


def feeds(t: int) -> Arrays:
    """Another batch at every step, so that no gradient repeats."""
    generator = np.random.default_rng([7, t])
    return {"x": generator.normal(size=(5, 3)), "y": generator.normal(size=(5, 2))}


def gradients(weights: Arrays, fed: Arrays) -> Arrays:
    """Those of `problem`, by hand."""
    apart = fed["x"] @ weights["w"] + weights["b"] - fed["y"]
    return {"w": fed["x"].T @ apart, "b": apart.sum(axis=0), "s": np.exp(weights["s"])}


def first_weights() -> Arrays:
    generator = np.random.default_rng(3)
    return {"w": generator.normal(size=(3, 2)), "b": generator.normal(size=2), "s": np.array(0.25)}


def sgd(
    alpha: Callable[[int], float], momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0
) -> Rule:
    def rule(w: np.ndarray, g: np.ndarray, slots: Arrays, t: int) -> np.ndarray:
        g = g + weight_decay * w
        slots["velocity"] = momentum * slots.get("velocity", 0.0) + g
        direction = g + momentum * slots["velocity"] if nesterov else slots["velocity"]
        return w - alpha(t) * direction

    return rule


def adam(
    alpha: Callable[[int], float], beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8, decay: float = 0.0
) -> Rule:
    def rule(w: np.ndarray, g: np.ndarray, slots: Arrays, t: int) -> np.ndarray:
        slots["mean"] = beta1 * slots.get("mean", 0.0) + (1 - beta1) * g
        slots["mean_square"] = beta2 * slots.get("mean_square", 0.0) + (1 - beta2) * g**2
        mean = slots["mean"] / (1 - beta1 ** (t + 1))
        mean_square = slots["mean_square"] / (1 - beta2 ** (t + 1))
        return w - alpha(t) * (mean / (np.sqrt(mean_square) + epsilon) + decay * w)

    return rule


def rmsprop(
    alpha: Callable[[int], float],
    decay: float = 0.9,
    epsilon: float = 1e-8,
    momentum: float = 0.0,
    centered: bool = False,
) -> Rule:
    def rule(w: np.ndarray, g: np.ndarray, slots: Arrays, t: int) -> np.ndarray:
        slots["mean_square"] = decay * slots.get("mean_square", 0.0) + (1 - decay) * g**2
        slots["mean"] = decay * slots.get("mean", 0.0) + (1 - decay) * g
        variance = slots["mean_square"] - slots["mean"] ** 2 if centered else slots["mean_square"]
        slots["velocity"] = momentum * slots.get("velocity", 0.0) + g / (np.sqrt(variance) + epsilon)
        return w - alpha(t) * slots["velocity"]

    return rule


def adagrad(alpha: Callable[[int], float], start: float = 0.0, epsilon: float = 1e-10) -> Rule:
    def rule(w: np.ndarray, g: np.ndarray, slots: Arrays, t: int) -> np.ndarray:
        slots["sum_square"] = slots.get("sum_square", start) + g**2
        return w - alpha(t) * g / (np.sqrt(slots["sum_square"]) + epsilon)

    return rule


def by_value(limit: float) -> Callable[[Arrays], Arrays]:
    return lambda grads: {name: np.minimum(np.maximum(g, -limit), limit) for name, g in grads.items()}


def by_global_norm(limit: float) -> Callable[[Arrays], Arrays]:
    def clip(grads: Arrays) -> Arrays:
        norm = np.linalg.norm(np.concatenate([np.ravel(g) for g in grads.values()]))
        return {name: g * limit / norm for name, g in grads.items()} if norm > limit else grads

    return clip


def descend(rule: Rule, clip: Callable[[Arrays], Arrays], steps: int) -> tuple[Arrays, dict[str, Arrays]]:
    """The weights and slots of `problem` after so many steps."""
    weights, slots = first_weights(), {"w": {}, "b": {}, "s": {}}
    for t in range(steps):
        grads = clip(gradients(weights, feeds(t)))
        weights = {name: rule(w, grads[name], slots[name], t) for name, w in weights.items()}
    return weights, slots
