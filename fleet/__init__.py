"""The command line: everything a person starts, looks at or repairs."""
