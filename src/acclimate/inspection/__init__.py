"""Label errors and outliers, found with pretrained networks."""
