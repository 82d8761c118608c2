"""Fleet simulator: the cost of a scaling policy, and the latencies that users would have seen."""
