"""`kdx plan`: what a run would do, reported without doing it."""
