"""Past events and past labels into feature rows: what was known of an entity before each boundary in time.

A project declares views as `transform` functions of a `Past`; `weakfish.features.build` writes their rows.
"""

from weakfish.features.past import Known, Past, Window
from weakfish.features.views import Transform, transform

__all__ = ["Known", "Past", "Transform", "Window", "transform"]
