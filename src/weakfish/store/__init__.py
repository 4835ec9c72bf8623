"""Feature rows into the online store and out of it: Feast's registry, its Redis plug-in, the embedded server."""
