"""One frozen `Adapter` per transformers class."""
