"""A simulator of fleets: what a scaling policy would have cost, and what its users would have felt."""
