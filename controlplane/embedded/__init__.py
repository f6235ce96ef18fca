"""The services that an installation brings along and that `DATABASE_URL`, `REDIS_URL` and `ENVOY_BIN` replace."""
