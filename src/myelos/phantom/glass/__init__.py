"""A whole glass slide of real size, painted block by block in bounded memory."""
