"""What the engine and its networks are measured against: differences, a trigram model of text, principal components."""

from graphengine.baselines.comparison import WAYS, Comparison, Way, compare, random_feeds
from graphengine.baselines.one_by_one import Differences, Element, ForwardMode, every_element, sample_elements
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
    "compare",
    "every_element",
    "random_feeds",
    "sample_elements",
]
