"""What a cell is: crops at one scale and one white point, and the second opinion on a detected cell."""
