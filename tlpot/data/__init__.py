"""Reading, checking, splitting and writing frames."""
