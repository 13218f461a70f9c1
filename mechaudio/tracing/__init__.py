"""Reading and editing one forward pass. The only room that touches nnsight."""
