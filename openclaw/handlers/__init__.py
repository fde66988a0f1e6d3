"""Handlers: Python functions that a node offers by name, run in warm processes of their own."""
