"""What the answers of a network mean: metrics, what guessing attains, what pseudo-labels are worth."""
