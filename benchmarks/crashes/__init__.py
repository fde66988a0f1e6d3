"""The crash matrix: each role of a mesh of real processes dies by SIGKILL at each step of a task's life."""
