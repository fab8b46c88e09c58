"""Many runs: means, paired differences, tables, one HTML page."""
