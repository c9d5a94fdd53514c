"""What the backend `numba` runs for each op: one module a family, and each is imported with this package."""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
