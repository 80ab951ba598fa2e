"""Writers: copies of the images, archives, CSV files."""
