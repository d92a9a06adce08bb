"""What a run tells its ledger and puts into checkpoints: steps, events, alarms."""
