"""One pass of the frozen backbone, kept, and what is read off it."""
