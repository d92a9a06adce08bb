"""The migrations, in order. Their names begin with their number, which is also their revision."""
