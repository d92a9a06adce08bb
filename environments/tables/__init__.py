"""Tables of rows on disk: finding and reading files, expressions over columns, an index of what can be used.

Nothing here knows of rewards or of what an environment is made of; `environments.rows` brings these together.
"""
