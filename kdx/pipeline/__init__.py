"""Recipes, which say which stages run, and the stages. Importing the packages costs no torch."""
