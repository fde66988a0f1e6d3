"""OpenClaw Mesh: run work on whichever of your machines can do it and has the fewest tasks.

Importing this package loads nothing else: the command line has to start in tens of milliseconds.
"""

__version__ = "0.1.0"
