"""The functions that run on every pixel, compiled for the CPU (numba) and for CUDA (Triton).

A kernel takes arrays or tensors of one photo; files, models and user options do not belong here.
"""
