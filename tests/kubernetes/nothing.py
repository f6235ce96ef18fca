"""The addresses of a web server that has none: whoever asks gets 404."""

urlpatterns: list[object] = []
