"""The running operator: watching with kopf, the queue, the reconcile and scaling loops."""
