"""Small commands to look at data, predictions and runs."""
