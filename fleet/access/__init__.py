"""``fleet access``: what a Pulsar with authorization must be told before the roles can work with a token each."""
