"""What is done to training images, so that the label stays true."""
