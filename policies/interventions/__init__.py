"""What may be done to a policy between two stages: a file each, listed by `evergreen methods interventions`."""
