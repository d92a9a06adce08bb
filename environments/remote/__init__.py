"""The client of environments that live in servers: which servers there are, calls and their failures, protocols."""
