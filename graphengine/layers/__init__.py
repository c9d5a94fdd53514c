"""Layers: functions that add several nodes at once, and name their parameters `layer.weight`, `layer.bias`."""

from graphengine.layers.conv import *
