"""What is measured of the policy: a list of measurements, evaluation its first member."""
