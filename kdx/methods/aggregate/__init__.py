"""How the answers of several teachers become one: one file each (see kdx.core.aggregate.Aggregate)."""
