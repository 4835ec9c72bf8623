"""From a team's own files to a whole project: proposed and written by `weakfish init`, brought along by `upgrade`."""
