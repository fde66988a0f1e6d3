"""The Python API: tasks from a program, and a node in one. `import openclaw` loads it when it is first needed."""
