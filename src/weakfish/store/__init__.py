"""Feast's plug-ins and what surrounds them: history offline, rows online, publishing, serving."""
