"""Measure the intrinsic dimension of fine-tuning a language model."""

__version__ = "0.1.0"
