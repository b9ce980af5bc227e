"""What the verbs print, one file a family."""
