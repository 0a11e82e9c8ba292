"""What people do with requests that no node shall try again: by a command, or through management."""
