"""Past events and past labels into feature rows: what was known of an entity before each boundary in time.

A project declares views as `transform` functions of a `Past`; `weakfish.features.build` writes their rows.
"""

from weakfish.features.views import Known, Past, Transform, Window, transform

__all__ = ["Known", "Past", "Transform", "Window", "transform"]
