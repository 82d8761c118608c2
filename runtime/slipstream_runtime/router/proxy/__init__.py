"""Path of a request from the client's connection to a replica and back."""
