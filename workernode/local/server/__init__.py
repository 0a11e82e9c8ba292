"""The transformers server: one model behind the OpenAI API. docs/local-server.md has its contract."""
