"""From a file to pixels: decoding, resizing, caching, batches."""
