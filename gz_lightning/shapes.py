"""Shapes as annotations: ``Float[Tensor, "n P"]`` is a tensor of n rows of P numbers.

They are documentation; the tests check them at run time with jaxtyping, which users need not install.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Int, Shaped
else:
    try:
        from jaxtyping import Float, Int, Shaped
    except ImportError:

        class Shaped:
            """Stand-in: ``Shaped[Tensor, "n P"]`` is ``Tensor``."""

            def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
                """The type without its shape."""
                return item[0]

        Float = Int = Shaped

__all__ = ["Float", "Int", "Shaped", "Tensor"]
