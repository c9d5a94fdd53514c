"""Small real data: the digits ship with the package (`data/README.md`); the others are read from where they are."""

from graphengine.data.images import FASHION_CLASSES, Split, digits, fashion_mnist
from graphengine.data.text import Alphabet, python_topics, windows
from graphengine.ir.arguments import check_public
from graphengine.ir.names import unknown_in

__all__ = ["FASHION_CLASSES", "Alphabet", "Split", "digits", "fashion_mnist", "python_topics", "windows"]

__dir__ = __all__.copy
__getattr__ = unknown_in("data")

check_public(globals(), __all__)
