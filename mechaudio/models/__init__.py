"""What each audio LLM class is made of, and how to ask it a question."""
