"""The largest of many values, in an order that rounding does not decide."""

import numpy as np
from jaxtyping import Float, Int

#: Values that differ by less than this share of the largest are equal: kernels that sum in another order change less.
ROUNDING = 1e-5


def largest_first(values: Float[np.ndarray, "*axes"]) -> Int[np.ndarray, " place"]:
    """Flat indices of the values, the largest first; equal ones in their own order; what is not finite is left out.

    Args:
        values: None negative, such as sizes of effects.
    """
    flat = np.where(np.isfinite(values), values, np.nan).ravel()
    step = ROUNDING * np.nanmax(flat, initial=0.0) or 1.0
    order = np.argsort(-np.round(flat / step), kind="stable")
    return order[~np.isnan(flat[order])]
