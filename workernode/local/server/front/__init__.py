"""The process that speaks HTTP: OpenAI's requests in, tokens to the steps, text back out."""
