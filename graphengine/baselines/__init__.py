"""What the engine and its networks are measured against: differences, a trigram model of text, principal components."""

from graphengine.baselines.comparison import WAYS, Comparison, Way, compare
from graphengine.baselines.differences import Differences, central_differences
from graphengine.baselines.elements import Element, every_element, sample_elements
from graphengine.baselines.feeds import random_feeds
from graphengine.baselines.forward_mode import ForwardMode
from graphengine.baselines.pca import PrincipalComponents
from graphengine.baselines.trigram import Trigram
from graphengine.baselines.unshared import Unshared

__all__ = [
    "WAYS",
    "Comparison",
    "Differences",
    "Element",
    "ForwardMode",
    "PrincipalComponents",
    "Trigram",
    "Unshared",
    "Way",
    "central_differences",
    "compare",
    "every_element",
    "random_feeds",
    "sample_elements",
]
