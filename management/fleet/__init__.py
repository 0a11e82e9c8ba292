"""The fleet as it is: nodes and gateways as they are heard, what operators do with them, and alerts."""
