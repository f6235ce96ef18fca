"""`make up`: everything that an installation needs, started in order, watched, and stopped in order."""
