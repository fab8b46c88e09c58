"""What only tables need: rows of numbers and categories, as their loaders hand them over."""
