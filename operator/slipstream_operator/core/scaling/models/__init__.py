"""Models that scaling learns from measurements, and what they predict."""
