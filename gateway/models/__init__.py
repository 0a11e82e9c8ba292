"""Which models there are: declared by an operator or a cluster, and served by nodes."""
