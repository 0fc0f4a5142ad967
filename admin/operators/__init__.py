"""Operators, grants, sessions, approvals, audit log."""
