"""``fleet credentials``: keys and tokens of a cluster's own, made in it, so that none ever stands in a file."""
