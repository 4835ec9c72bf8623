"""Which Redis a project talks to, clients of it, and the embedded server that is used where none is named."""
