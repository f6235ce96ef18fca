"""The gateway: Envoy, configured by files that it watches. Nothing here knows rows, and Envoy knows nothing of us."""
