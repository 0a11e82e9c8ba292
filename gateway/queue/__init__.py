"""What waits: who may join the queue of a model, how long it is, and how a request gets into it."""
