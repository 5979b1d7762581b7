"""What a network looks at, whether such maps can be trusted, and its features as a map of two dimensions."""
