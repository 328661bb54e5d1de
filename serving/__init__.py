"""A trained run at work on any picture: faces found, cropped as in training, classified, drawn, written to tables."""
