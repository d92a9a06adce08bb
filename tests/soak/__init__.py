"""A curriculum over a long time: with nothing around it, and with faults drawn at random, to the same end."""
