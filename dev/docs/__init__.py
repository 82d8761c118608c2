"""Documentation: reference pages generated from the code, and the site built from docs/."""
