"""Measurements that are too long for a test: docs/performance.md."""
