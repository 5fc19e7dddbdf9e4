"""What a person takes away: checkpoints, recipe, masks, smaller models, ONNX."""
