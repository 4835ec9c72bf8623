"""What changed between two versions of a project, and what did it: `weakfish diff`."""
