"""The workshop: requests in, tokens out. One process serves one model; ``python -m workernode`` starts it."""
