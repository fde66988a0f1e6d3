"""The simulator: the very machines that run for real, in a world whose time, network, disks and chance are ours.

A run is decided by its seed alone, to the hash of its trace. Nothing in here is imported by the product.
"""
