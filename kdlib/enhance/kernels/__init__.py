"""What runs on every pixel: compiled for the CPU (numba), for CUDA (Triton), and the same in plain PyTorch.

A kernel takes arrays or tensors of one photo; it knows no files, no models and no options.
"""
