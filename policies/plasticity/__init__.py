"""What tells how well a policy could still learn: a file for each thing measured, over tensors and plain arrays."""
