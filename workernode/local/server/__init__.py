"""The transformers server: one model behind the OpenAI API. docs/local-node.md has its contract."""
