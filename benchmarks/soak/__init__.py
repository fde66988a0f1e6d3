"""A mesh under mixed work whose nodes are killed one after the other, for as long as one likes."""
