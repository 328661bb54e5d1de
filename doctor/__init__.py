"""What check_data.py looks at: the photos of a data set, and the machine that shall train on them."""
