"""Online features over HTTP: Feast's `/get-online-features`, its JSON, at the speed of the store behind it."""
