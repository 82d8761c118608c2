"""Python environments of their own, each installed from one of the locks in requirements/."""
