"""A real Kubernetes on one Linux machine, for developing and testing Slipstream.

Every component is built from pinned Go modules and every image from the working tree, so that
neither Docker nor a container registry is needed. Nothing here is part of the product.
"""
