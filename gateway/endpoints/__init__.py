"""What clients may ask, one file per endpoint. Pure: bytes in, what is asked or a client's error out."""
