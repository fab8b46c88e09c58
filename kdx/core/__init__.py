"""What every room may use: types, mathematics, errors, checks, files. Imports nothing of kdx."""
