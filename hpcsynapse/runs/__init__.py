"""What a run leaves behind: its directory, states, records, failures."""
