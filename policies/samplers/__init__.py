"""Engines that play the policy. A method is a file with `Config` and `create`; `contracts` says what they promise."""
