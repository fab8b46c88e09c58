"""What only sounds need: files read, and log-mel pictures made of them."""
