"""Run the command line as `python -m gru_np`."""

from gru_np.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
