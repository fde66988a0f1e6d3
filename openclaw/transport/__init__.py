"""ZeroMQ under CURVE: the mesh, intro and bulk ports. See `mesh`, `intro` and `bulk`."""
