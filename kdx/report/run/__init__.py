"""One run: progress, its run.json, table, pages, figures, TensorBoard."""
