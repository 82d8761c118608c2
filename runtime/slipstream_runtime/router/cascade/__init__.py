"""InferenceRoutes: weighted splits, and cascades from cheap services to expensive ones."""
