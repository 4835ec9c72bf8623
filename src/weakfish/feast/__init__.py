"""Feast's plug-ins: registry, offline store, online store, publishing and serving."""
