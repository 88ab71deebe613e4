"""The native kernels: INT8 on CPU."""
