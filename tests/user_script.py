"""What a user writes: it runs, and passes mypy and pyright in their strict modes without a plugin."""

import numpy as np

import graphengine as ge

graph = ge.Graph("user")
x, y = graph.input("x", ("batch", 2)), graph.input("y", ("batch", 1))
w = graph.parameter("w", (2, 1), init=ge.init.Normal(0.1, mean=0.5))
b = graph.parameter("b", (1,), init=ge.init.Constant(0.0))
hidden = ge.layers.dense(x, 2, init=ge.init.Uniform(-0.1, 0.1), name="hidden")
graph.output("loss", ge.half_squared_error(hidden @ w + b, y))
schedule = ge.Warmup(2, ge.CosineDecay(0.1, 10))
optimizers = [
    ge.GD(0.005),
    ge.SGD(schedule, 0.9, nesterov=True),
    ge.Adam(0.005, clip=ge.ClipByGlobalNorm(1.0)),
    ge.AdamW(ge.StepDecay(0.1, 0.5, 10), weight_decay=0.1),
    ge.RMSProp(ge.ExponentialDecay(0.1, 0.9), clip=ge.ClipByValue(1.0)),
    ge.Adagrad(ge.InverseTimeDecay(0.1, 0.01)),
    ge.Adam(ge.Piecewise((5,), (0.1, 0.01))),
]
feeds = {"x": np.ones((4, 2), np.float32), "y": np.zeros((4, 1), np.float32)}
for optimizer in optimizers:
    exe = ge.compile(graph, loss="loss", optimizer=optimizer)
    callbacks: list[ge.Callback] = [ge.EarlyStopping("loss", patience=3)]
    history = ge.fit(exe, feeds, epochs=2, batch_size=2, callbacks=callbacks, progress=False)
    losses: list[float] = [epoch.values["loss"] for epoch in history.epochs]
training = ge.Training(loss="loss", optimizer=ge.Adam(0.005), epochs=3)
