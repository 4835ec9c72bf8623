"""From a served or trained value, or a label, back to the events, code and versions that made it."""
