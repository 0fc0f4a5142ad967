"""Payments and their stories."""
