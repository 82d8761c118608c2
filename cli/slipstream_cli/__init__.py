"""`slipstream`, the command line for users."""
