"""The words that gateway, nodes and management say to one another. Pure: no I/O, no asyncio, no environment, no clock.

``docs/messages.md`` tells the same in prose, for people who write a node in another language.
"""
