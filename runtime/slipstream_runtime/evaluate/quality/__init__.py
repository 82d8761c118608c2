"""Quality of a model's answers: scores with intervals, compared item by item with those of a baseline."""
