"""The GRU, written once: read it as NumPy, run it as SIMD, check it to the last digit."""

__version__ = "0.1.0"
