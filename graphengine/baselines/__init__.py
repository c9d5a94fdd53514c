"""What backpropagation is measured against: differentiation one parameter at a time."""

from graphengine.baselines.comparison import Comparison, compare
from graphengine.baselines.differences import Element, central_differences, every_element, sample_elements

__all__ = ["Comparison", "Element", "central_differences", "compare", "every_element", "sample_elements"]
