"""The page for people at ``/``: models, a prompt to try, and the same for programs. It loads nothing from elsewhere."""
