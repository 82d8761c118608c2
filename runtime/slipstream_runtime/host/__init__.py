"""The process around an engine, whichever it is: lifecycle, the front before clients, probes, metrics, signals."""
