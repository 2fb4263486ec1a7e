"""From a trained model to an answer: `calibration.json`, predictions, abstention, export."""
