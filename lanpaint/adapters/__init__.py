"""Adapters: foreign models as scores."""
