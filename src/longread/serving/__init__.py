"""`longread serve`: answers over HTTP. The batcher, the web application and its page. Needs the extra `serve`."""
