"""The stages as rows, the steps of `acclimate run`, and the artifacts they pass on."""
