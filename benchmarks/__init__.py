"""What the documentation claims about speed and memory, measured: `make bench`."""
