"""The main job: from a config to a run folder."""
