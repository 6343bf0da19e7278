"""Weights to and from other frameworks: a module for each."""
