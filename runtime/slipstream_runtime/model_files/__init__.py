"""Model files: where they are, how they are downloaded, and what the cache keeps of them."""
