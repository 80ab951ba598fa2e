"""Images and their table: reading, decoding, splitting, batching."""
