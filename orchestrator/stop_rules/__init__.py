"""Stop rules: why a stage may end before its budget is used. They look at the stage's own rewards only."""
