"""The process that steps the model: who is in the batch, one forward pass for all, one token for each."""
