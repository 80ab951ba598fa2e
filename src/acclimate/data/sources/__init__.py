"""Readers: folders, lists, archives and saved data sets become one table."""
