"""``fleet dead-letters``: requests that no node shall try again wait here for a person."""
