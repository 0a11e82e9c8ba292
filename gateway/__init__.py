"""The reception: HTTP in, SSE out. It owns its requests until they end; any number of replicas may run."""
