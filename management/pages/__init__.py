"""The dashboard: pages for people, made on the server. Each file is one page, or what pages share.

They read what the REST API reads, load nothing from elsewhere, and work without scripts; with them they stay
up to date.
"""
