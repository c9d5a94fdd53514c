"""Small real data sets that ship with the package; each is read when it is asked for. Sources: `data/README.md`."""

from graphengine.data.digits import DigitsSplit, digits

__all__ = ["DigitsSplit", "digits"]
