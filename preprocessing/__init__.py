"""From photos to face crops: detect_faces, then crop_faces."""
