"""The operator: kopf as informer, a pure `reconcile`, and the few API calls that carry out what it decides."""
