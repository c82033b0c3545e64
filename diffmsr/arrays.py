"""Names for the numpy arrays that hold images."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Magnitudes = NDArray[np.float32]
"""One magnitude image (h, w), or several (n, h, w)."""
Pixels = NDArray[Any]
"""One image (h, w), or several (n, h, w), in a unit of its own: unsigned integers or floats of magnitude, or complex64."""
