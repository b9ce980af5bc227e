"""Which element stands in for which; elements as vectors."""
