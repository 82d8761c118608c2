"""Builds of optimized checkpoints: quantize, sparsify, prune, distill and export, each with a report on its answers."""
