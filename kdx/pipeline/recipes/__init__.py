"""One file a recipe: stages in order."""
