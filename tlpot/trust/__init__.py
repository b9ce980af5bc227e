"""Do labels belong to their structures? The base and the other frames of a file say."""
