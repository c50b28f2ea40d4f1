"""The benchmark: gru_np against every GRU that is installed, each in a process of its own.

Run `python -m benchmarks --quick` from a clone; `benchmarks/README.md` says what is measured.
"""
