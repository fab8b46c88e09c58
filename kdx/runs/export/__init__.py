"""A trained network as files that other programs read, with a card of what made it."""
