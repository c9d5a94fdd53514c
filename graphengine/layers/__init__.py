"""Layers: functions that add several nodes at once, and name their parameters `layer.weight`, `layer.bias`."""

from graphengine.layers.conv import conv1d as conv1d
from graphengine.layers.conv import conv2d as conv2d
from graphengine.layers.conv import conv2d_transpose as conv2d_transpose
