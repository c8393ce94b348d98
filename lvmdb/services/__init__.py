"""HTTP services over the corpus: FastAPI applications, and the processes that serve them."""
