"""RetinaNet, a detector of boxes in images: network, losses, average precision, in a module each."""
