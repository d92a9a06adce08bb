"""Rollouts: tasks to scored groups."""
