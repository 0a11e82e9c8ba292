"""What providers call differently: small named adapters, and the dialects that are made of them."""
