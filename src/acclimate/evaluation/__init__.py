"""What a classifier does on a data set, and how two of them differ."""
