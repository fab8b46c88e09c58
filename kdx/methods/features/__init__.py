"""Terms on hidden features, the slot `loss.features`. One method a file; none imports another."""
