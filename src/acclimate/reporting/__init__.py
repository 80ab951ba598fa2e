"""HTML reports, with their figures and thumbnails."""
