"""The engine of a node of type ``local``: a model server as a child process, to which requests are relayed."""
