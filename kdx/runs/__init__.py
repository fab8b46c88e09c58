"""One run and many: running, sweeps, run folders read back, measured, compared, exported and cleaned up."""
