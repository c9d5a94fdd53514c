"""What the engine and its networks are measured against: differences, a trigram model of text, principal components."""

from graphengine.baselines.comparison import Comparison, compare
from graphengine.baselines.differences import Element, central_differences, every_element, sample_elements
from graphengine.baselines.pca import PrincipalComponents
from graphengine.baselines.trigram import Trigram

__all__ = [
    "Comparison",
    "Element",
    "PrincipalComponents",
    "Trigram",
    "central_differences",
    "compare",
    "every_element",
    "sample_elements",
]
