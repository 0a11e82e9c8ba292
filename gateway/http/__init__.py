"""HTTP on both sides of a request: the door, what is read of a client, and how it is answered."""
