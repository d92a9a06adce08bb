"""Selections: which task of a category is played next; one small file a method."""
