"""One pass over the image files: size, brightness, sharpness, thumbnails, hashes."""
