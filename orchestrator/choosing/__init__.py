"""Who chooses: the environment of a stage, the category of a group, and when a stage ends."""
