"""Tests of `policies`."""

import policies as policies  # before a test imports transformers, whose models then come as they do in a run
