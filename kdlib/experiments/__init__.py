"""Measurements that the notebooks cite: each module runs one, can be interrupted, and writes one file of results.

The library never imports an experiment; only notebooks, tests and the command line do.
"""
