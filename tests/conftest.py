"""Fixtures for every test."""

pytest_plugins = ["tests.s3_server"]
