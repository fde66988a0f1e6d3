"""Measurements that anyone can run: each script prints ours beside its peer or limit, in the same run."""
