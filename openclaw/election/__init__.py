"""Bully with stored terms and turns: who leads, and who leads next. Pure."""
